//! Pages behind a login: sign-up, login, logout and the files of the site.
