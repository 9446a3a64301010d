//! The web framework: application, router, extractors, responses, cookies, sessions, static files, events.
