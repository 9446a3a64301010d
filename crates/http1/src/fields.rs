//! Outgoing fields: checked when they are added, kept in wire form, written with one copy.

/// Ordered outgoing fields. A name or value that could break the message never gets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {}

/// A field name that is no token, or a value with CR, LF, NUL or another control byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// The name is empty or no token.
    #[error("invalid field name")]
    Name,
    /// The value holds a control byte.
    #[error("control byte in a field value")]
    Value,
    /// More than [`Fields::BYTES_MAX`] bytes of fields.
    #[error("too many field bytes")]
    TooLong,
}

impl Fields {
    /// Most bytes of fields one message carries.
    pub const BYTES_MAX: usize = 1024 * 1024;

    /// No fields, nothing allocated.
    pub const fn new() -> Self {
        Self {}
    }

    /// Adds a field line after the others, keeping any of the same name. The value is written
    /// without surrounding whitespace.
    ///
    /// # Errors
    /// The name is no token, or the value holds a control byte: nothing was added.
    pub fn append(&mut self, _name: &str, _value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        todo!()
    }

    /// Replaces all fields of this name by one.
    ///
    /// # Errors
    /// As [`Fields::append`]: nothing was changed.
    pub fn set(&mut self, _name: &str, _value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        todo!()
    }

    /// Removes all fields of this name; whether there were any.
    pub fn remove(&mut self, _name: &str) -> bool {
        todo!()
    }

    /// Whether there is a field of this name, in any case.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of the first field of this name, in any case.
    pub fn get(&self, _name: &str) -> Option<&[u8]> {
        todo!()
    }

    /// The values of all fields of this name, in order.
    pub fn get_all(&self, _name: &str) -> impl Iterator<Item = &[u8]> {
        std::iter::empty()
    }

    /// Every field line in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        std::iter::empty()
    }

    /// Adds all of another's fields after these.
    pub fn extend(&mut self, _other: &Self) {
        todo!()
    }

    /// How many field lines there are.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Removes all, keeping the buffer.
    pub fn clear(&mut self) {
        todo!()
    }
}
