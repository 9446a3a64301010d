//! Drives HTTP/1.1 over sockets: workers, deadlines, client pool, upgrade, graceful stop.
