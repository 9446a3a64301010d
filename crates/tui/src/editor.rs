//! The input line: text, cursor, and what was typed before.

use std::collections::VecDeque;

use ratatui::text::Span;

/// Lines remembered.
const PAST_LINES_MAX: usize = 200;
/// Longest line, in characters: the longest message and a command before it.
const LINE_CHARS_MAX: usize = chat::TEXT_BYTES_MAX + 64;

/// A line being edited. Positions count characters.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    line: Vec<char>,
    cursor: usize,
    past: VecDeque<String>,
    /// Which past line is shown, counted back from the newest; `None` while the own draft is.
    recalled: Option<usize>,
    draft: String,
}

impl Editor {
    /// The text of the line.
    pub(crate) fn text(&self) -> String {
        self.line.iter().collect()
    }

    /// The text before the cursor, as wide as it is shown.
    pub(crate) fn before_cursor(&self) -> String {
        self.line[..self.cursor].iter().collect()
    }

    /// Puts a character in.
    pub(crate) fn insert(&mut self, character: char) {
        if self.line.len() < LINE_CHARS_MAX {
            self.line.insert(self.cursor, character);
            self.cursor += 1;
        }
    }

    /// Puts pasted text in, as far as it fits.
    pub(crate) fn paste(&mut self, text: &str) {
        let room = LINE_CHARS_MAX - self.line.len().min(LINE_CHARS_MAX);
        let pasted: Vec<char> = text.replace("\r\n", "\n").replace('\r', "\n").chars().take(room).collect();
        let count = pasted.len();
        self.line.splice(self.cursor..self.cursor, pasted);
        self.cursor += count;
    }

    /// Deletes before the cursor.
    pub(crate) fn backspace(&mut self) {
        let start = self.previous();
        self.line.drain(start..self.cursor);
        self.cursor = start;
    }

    /// Deletes at the cursor.
    pub(crate) fn delete(&mut self) {
        let end = self.next();
        self.line.drain(self.cursor..end);
    }

    /// Deletes the word before the cursor.
    pub(crate) fn delete_word(&mut self) {
        let mut start = self.cursor;
        while start > 0 && self.line[start - 1].is_whitespace() {
            start -= 1;
        }
        while start > 0 && !self.line[start - 1].is_whitespace() {
            start -= 1;
        }
        self.line.drain(start..self.cursor);
        self.cursor = start;
    }

    /// Deletes everything before the cursor.
    pub(crate) fn delete_to_start(&mut self) {
        self.line.drain(..self.cursor);
        self.cursor = 0;
    }

    /// One step left.
    pub(crate) fn left(&mut self) {
        self.cursor = self.previous();
    }

    /// One step right.
    pub(crate) fn right(&mut self) {
        self.cursor = self.next();
    }

    /// To the start.
    pub(crate) fn home(&mut self) {
        self.cursor = 0;
    }

    /// To the end.
    pub(crate) fn end(&mut self) {
        self.cursor = self.line.len();
    }

    /// Takes the line out, remembers it, and starts an empty one.
    pub(crate) fn submit(&mut self) -> String {
        let text = self.text();
        if !text.trim().is_empty() && self.past.back() != Some(&text) {
            self.past.push_back(text.clone());
            if self.past.len() > PAST_LINES_MAX {
                self.past.pop_front();
            }
        }
        self.show("");
        self.recalled = None;
        self.draft.clear();
        text
    }

    /// Shows the line typed before the one shown.
    pub(crate) fn earlier(&mut self) {
        let wanted = self.recalled.map_or(0, |back| back + 1);
        if wanted >= self.past.len() {
            return;
        }
        if self.recalled.is_none() {
            self.draft = self.text();
        }
        self.recall(wanted);
    }

    /// Shows the line typed after the one shown, at last the own draft.
    pub(crate) fn later(&mut self) {
        match self.recalled {
            None => {}
            Some(0) => {
                self.recalled = None;
                let draft = std::mem::take(&mut self.draft);
                self.show(&draft);
            }
            Some(back) => self.recall(back - 1),
        }
    }

    fn recall(&mut self, back: usize) {
        let text = self.past[self.past.len() - 1 - back].clone();
        self.recalled = Some(back);
        self.show(&text);
    }

    fn show(&mut self, text: &str) {
        self.line = text.chars().collect();
        self.cursor = self.line.len();
    }

    /// The position one visible character to the left.
    fn previous(&self) -> usize {
        let mut position = self.cursor;
        while position > 0 {
            position -= 1;
            if !is_attached(self.line[position]) {
                break;
            }
        }
        position
    }

    /// The position one visible character to the right.
    fn next(&self) -> usize {
        let mut position = (self.cursor + 1).min(self.line.len());
        while position < self.line.len() && is_attached(self.line[position]) {
            position += 1;
        }
        position
    }
}

/// Whether a character has no width of its own, and so belongs to the one before: accents, joiners, selectors.
fn is_attached(character: char) -> bool {
    !character.is_control() && Span::raw(character.to_string()).width() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types `text`, in which `<` and `>` are the arrow keys, `^` and `~` the start and the end, `#` backspace, `%` delete.
    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        for character in text.chars() {
            match character {
                '<' => editor.left(),
                '>' => editor.right(),
                '^' => editor.home(),
                '~' => editor.end(),
                '#' => editor.backspace(),
                '%' => editor.delete(),
                _ => editor.insert(character),
            }
        }
        editor
    }

    #[test]
    fn editing() {
        for (keys, text, before) in [
            ("abc<X", "abXc", "abX"),
            ("abc^X~Y", "XabcY", "XabcY"),
            ("abc<<#", "bc", ""),
            ("abc^%", "bc", ""),
            ("#%<>", "", ""),
            ("e\u{301}x<<", "e\u{301}x", ""),
            ("ae\u{301}#", "a", "a"),
            ("漢字<#", "字", ""),
        ] {
            let editor = typed(keys);
            assert_eq!((editor.text().as_str(), editor.before_cursor().as_str()), (text, before), "{keys}");
        }
        let mut editor = typed("one two  ");
        editor.delete_word();
        assert_eq!(editor.text(), "one ");
        editor.delete_to_start();
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn past_lines_come_back_and_the_draft_is_kept() {
        let mut editor = typed("first");
        assert_eq!(editor.submit(), "first");
        editor.paste("second\r\nline");
        assert_eq!(editor.submit(), "second\nline");
        editor.paste("draft");
        editor.earlier();
        assert_eq!(editor.text(), "second\nline");
        editor.earlier();
        editor.earlier();
        assert_eq!(editor.text(), "first");
        editor.later();
        editor.later();
        assert_eq!(editor.text(), "draft");
        editor.later();
        assert_eq!(editor.text(), "draft");
    }

    #[test]
    fn nothing_grows_without_limit() {
        let mut editor = Editor::default();
        editor.paste(&"x".repeat(LINE_CHARS_MAX + 5));
        editor.insert('y');
        editor.paste("z");
        assert_eq!(editor.text().len(), LINE_CHARS_MAX);
        for number in 0..PAST_LINES_MAX + 9 {
            editor.submit();
            editor.paste(&number.to_string());
        }
        assert_eq!(editor.past.len(), PAST_LINES_MAX);
    }
}
