//! Reads protocol cases from Markdown files a reviewer can read.
