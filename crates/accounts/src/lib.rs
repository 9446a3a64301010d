//! Accounts, passwords and login sessions over the chat store.
