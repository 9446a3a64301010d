//! Tokens to statements: a name, words, and `;` or a block. Knows of the directives only their names and
//! shapes, to find its way after a mistake.

use super::ERRORS_MAX;
use super::error::Flaw;
use super::lexer::{Kind, Lexer, Token};
use super::table::{self, Shape};

/// Deepest nesting followed; beyond it a block is passed over. The grammar needs two.
const DEPTH_MAX: usize = 8;

/// A directive as it stands in the text.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) name: Token,
    pub(super) words: Vec<Token>,
    /// What stands in its braces; `None` without braces.
    pub(super) block: Option<Vec<Statement>>,
    /// The token after the words: `;`, `{`, or what stands in their place.
    pub(super) end: Token,
    /// Whether a mistake inside it is already noted, so that what seems to be missing may stand there.
    pub(super) is_damaged: bool,
}

/// The statements of a text as far as it could be understood, and the mistakes.
pub(super) fn read(text: &str) -> (Vec<Statement>, Vec<Flaw>) {
    let mut reader = Reader {
        text,
        lexer: Lexer::new(text),
        token: Token { kind: Kind::End, text: String::new(), start: 0, end: 0 },
        last_end: 0,
        flaws: Vec::new(),
    };
    reader.advance();
    reader.last_end = 0;
    let mut statements = Vec::new();
    while reader.token.kind != Kind::End {
        match reader.token.kind {
            Kind::Word | Kind::Quoted => statements.push(reader.statement(0)),
            Kind::Semicolon => reader.advance(),
            _ => {
                reader.flaw_here(table::Place::Top.expected(), "");
                if reader.token.kind == Kind::Open { reader.skip_block() } else { reader.advance() }
            }
        }
    }
    (statements, reader.flaws)
}

struct Reader<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The token to look at next.
    token: Token,
    /// Where the token before it ended.
    last_end: usize,
    flaws: Vec<Flaw>,
}

impl Reader<'_> {
    fn statement(&mut self, depth: usize) -> Statement {
        let noted = self.flaws.len();
        let name = self.take();
        let directive = table::find(&name.text);
        let mut words: Vec<Token> = Vec::new();
        while self.token.is_text() && !self.begins_statement() && !ends_without_semicolon(&name, &words, &self.token) {
            words.push(self.take());
        }
        let is_block = match directive {
            Some(directive) if directive.shape == Shape::Either => self.token.kind == Kind::Open,
            Some(directive) => directive.shape == Shape::Block,
            None => self.token.kind == Kind::Open,
        };
        let end = self.token.clone();
        let is_damaged = self.flaws.len() > noted;
        let block = if is_block && depth >= DEPTH_MAX {
            self.recover_from_depth();
            None
        } else if is_block {
            self.open(&name, is_damaged).then(|| self.block(&name, depth + 1))
        } else {
            let may_be_missing = directive.is_none() || is_damaged || is_original_policy(&name, &words);
            self.semicolon(may_be_missing);
            None
        };
        Statement { name, words, block, end, is_damaged }
    }

    /// The `{` of a block; whether what follows belongs to it.
    fn open(&mut self, name: &Token, is_damaged: bool) -> bool {
        if self.token.kind == Kind::Open {
            self.advance();
            return true;
        }
        if !is_damaged {
            let place = match name.text.as_str() {
                "host" => "after the host's name",
                "location" => "after the prefix",
                _ => "after the name",
            };
            let hint = format!("a `{0}` block is `{0} … {{ … }}`", name.text);
            self.flaw_here(&format!("`{{` {place}"), &hint);
        }
        // Only the brace was forgotten: what follows still belongs to the block.
        self.begins_statement() && !self.begins_top_block()
    }

    /// The statements up to the `}`.
    fn block(&mut self, name: &Token, depth: usize) -> Vec<Statement> {
        let mut statements = Vec::new();
        loop {
            match self.token.kind {
                Kind::Close => {
                    self.advance();
                    return statements;
                }
                Kind::Semicolon => self.advance(),
                Kind::Open => {
                    self.flaw_here("a directive or `}`", "");
                    self.skip_block();
                }
                Kind::Word | Kind::Quoted if !self.begins_top_block() => {
                    statements.push(self.statement(depth));
                }
                Kind::Word | Kind::Quoted | Kind::End => {
                    // Blocks that are open around this one end here as well: once is enough.
                    if self.flaws.last().is_none_or(|flaw| flaw.at != self.token.start) {
                        let line = self.line(name.start);
                        self.flaw_here("`}`", &format!("the block that begins on line {line} is not closed"));
                    }
                    return statements;
                }
            }
        }
    }

    fn semicolon(&mut self, may_be_missing: bool) {
        match self.token.kind {
            Kind::Semicolon => return self.advance(),
            Kind::Open => return self.skip_block(), // the builder sees by `Statement::end` that it stood there
            _ if may_be_missing => return,
            _ => {}
        }
        // On a later line the eye looks for the `;` at the end of the directive, not before the next one.
        let flaw = if self.token_on_later_line() {
            Flaw::new(self.last_end, "`;`", "the end of the line")
        } else {
            Flaw::new(self.token.start, "`;`", self.token.describe())
        };
        self.note(flaw);
    }

    fn recover_from_depth(&mut self) {
        if self.token.kind == Kind::Open {
            self.skip_block();
        }
    }

    fn skip_block(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                Kind::End => return,
                _ => {}
            }
            self.advance();
            if depth == 0 {
                return;
            }
        }
    }

    fn take(&mut self) -> Token {
        let token = self.token.clone();
        self.advance();
        token
    }

    /// Takes the next token, noting what is none.
    fn advance(&mut self) {
        self.last_end = self.token.end;
        loop {
            match self.lexer.next() {
                Ok(token) => {
                    self.token = token;
                    return;
                }
                Err(flaw) => self.note(flaw),
            }
        }
    }

    fn flaw_here(&mut self, expected: &str, hint: &str) {
        let flaw = Flaw::new(self.token.start, expected, self.token.describe());
        self.note(if hint.is_empty() { flaw } else { flaw.hint(hint) });
    }

    /// Keeps a mistake; beyond the limit only counts would grow, so it is dropped.
    fn note(&mut self, flaw: Flaw) {
        if self.flaws.len() < ERRORS_MAX {
            self.flaws.push(flaw);
        }
    }

    /// Whether a directive begins a line here.
    fn begins_statement(&self) -> bool {
        self.token.kind == Kind::Word && table::find(&self.token.text).is_some() && self.begins_line()
    }

    /// Whether a block begins here that stands in no other, so that those that are open have no end.
    fn begins_top_block(&self) -> bool {
        self.token.kind == Kind::Word
            && (self.token.text == "host" || (self.token.text == "upstream" && self.begins_line()))
    }

    fn begins_line(&self) -> bool {
        let before = self.text.get(..self.token.start).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
    }

    fn token_on_later_line(&self) -> bool {
        self.text.get(self.last_end..self.token.start).is_some_and(|between| between.contains('\n'))
            || self.token.kind == Kind::End
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }
}

/// `dist_policy round-robin`: the original files left its `;` out.
fn is_original_policy(name: &Token, words: &[Token]) -> bool {
    name.text == "dist_policy" && matches!(words, [word] if word.text == "round-robin")
}

/// Whether the words of a statement are over although no `;` follows.
fn ends_without_semicolon(name: &Token, words: &[Token], next: &Token) -> bool {
    is_original_policy(name, words) && next.kind == Kind::Word && table::find(&next.text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(statements: &[Statement]) -> String {
        let mut shown = String::new();
        for statement in statements {
            shown.push_str(&statement.name.text);
            for word in &statement.words {
                shown.push(' ');
                shown.push_str(&word.text);
            }
            match &statement.block {
                Some(block) => shown.extend(["{", &show(block), "}"]),
                None => shown.push(';'),
            }
        }
        shown
    }

    fn check(text: &str, expect: &str, flaws: &[usize]) {
        let (statements, noted) = read(text);
        assert_eq!(show(&statements), expect, "{text}");
        assert_eq!(noted.iter().map(|flaw| flaw.at).collect::<Vec<_>>(), flaws, "{text}: {noted:?}");
    }

    #[test]
    fn statements_end_with_a_semicolon_or_a_block() {
        check("a b c; host x { d e; ; location / { } }", "a b c;host x{d e;location /{}}", &[]);
        check("a { b { c; } }", "a{b{c;}}", &[]);
        check("listen a { b; } listen c;", "listen a{b;}listen c;", &[]);
        check("", "", &[]);
    }

    #[test]
    fn the_policy_of_the_original_needs_no_semicolon() {
        check("dist_policy round-robin proxy_pass x;", "dist_policy round-robin;proxy_pass x;", &[]);
        check("dist_policy ip-hash proxy_pass x;", "dist_policy ip-hash proxy_pass x;", &[]);
    }

    #[test]
    fn after_a_mistake_the_rest_is_understood() {
        check("listen a\nlisten b;", "listen a;listen b;", &[8]);
        check("host a\nproxy_pass b;\n}\nlisten c;", "host a{proxy_pass b;}listen c;", &[7]);
        check("host a {\nproxy_pass b;\nhost c { }", "host a{proxy_pass b;}host c{}", &[23]);
        check("} listen c;", "listen c;", &[0]);
        check("redirect a { b; } listen c;", "redirect a;listen c;", &[]);
    }

    #[test]
    fn endless_nesting_is_passed_over() {
        let text = "a {".repeat(100_000);
        let (statements, flaws) = read(&text);
        assert_eq!(statements.len(), 1);
        assert_eq!(flaws.len(), 1);
    }
}
