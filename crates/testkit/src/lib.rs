//! For tests only: raw HTTP client, case files, byte-wise splitting.
