//! The tokens of an expression, each with its place.

use winnow::ascii::{digit1, multispace0};
use winnow::combinator::{alt, opt};
use winnow::error::EmptyError;
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location};
use winnow::token::{any, one_of, take_while};

/// One token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Number(&'a str),
    Name(&'a str),
    /// An operator, a parenthesis, a comma, or a character that means nothing.
    Sign(char),
    End,
}

/// A token and the byte at which it starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placed<'a> {
    pub token: Token<'a>,
    pub at: usize,
}

/// The text as tokens, [`Token::End`] last. Every text has some: what means nothing is for the parser to refuse.
pub(super) fn tokens(text: &str) -> Vec<Placed<'_>> {
    let mut input = LocatingSlice::new(text);
    let mut tokens = Vec::new();
    loop {
        space(&mut input);
        let at = input.current_token_start();
        let token = token(&mut input).unwrap_or(Token::End);
        tokens.push(Placed { token, at });
        if token == Token::End {
            return tokens;
        }
    }
}

type Input<'a> = LocatingSlice<&'a str>;
type Read<T> = Result<T, EmptyError>;

fn space(input: &mut Input<'_>) {
    let blank: Read<&str> = multispace0.parse_next(input);
    blank.expect("no blanks are blanks too");
}

/// None at the end.
fn token<'a>(input: &mut Input<'a>) -> Option<Token<'a>> {
    let any_token: Read<Token<'a>> =
        alt((number.map(Token::Number), name.map(Token::Name), any.map(Token::Sign))).parse_next(input);
    any_token.ok()
}

/// 1, 1.5, .5, 2e-3: an `e` without digits after it is a name.
fn number<'a>(input: &mut Input<'a>) -> Read<&'a str> {
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1).void();
    let whole = (digit1, opt(('.', opt(digit1)))).void();
    let fraction = ('.', digit1).void();
    (alt((whole, fraction)), opt(exponent)).take().parse_next(input)
}

fn name<'a>(input: &mut Input<'a>) -> Read<&'a str> {
    let first = one_of(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = take_while(0.., |c: char| c.is_ascii_alphanumeric() || c == '_');
    (first, rest).take().parse_next(input)
}
