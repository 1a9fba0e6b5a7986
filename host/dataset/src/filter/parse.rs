//! From SQL's text to a condition, or to what of it is not supported.

use sqlparser::ast::{BinaryOperator, DataType as SqlType, Expr, InTarget, UnaryOperator, Value};
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::Condition;
use super::compare::{Comparison, Like, Literal, Operand, Operator};

/// Bytes of a condition.
const MAX_TEXT: usize = 64 * 1024;
/// Words and operators of a condition: each may be a level of the tree that the parser makes, which is dropped level by level on the
/// stack. Literals and commas are not counted, so that lists may be long.
const MAX_WORDS: usize = 2_000;
/// Levels of the tree. Chains of `AND` and of `OR` are one level.
const MAX_DEPTH: usize = 64;

pub(super) fn condition(text: &str) -> Result<Condition, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it has {} bytes; at most {MAX_TEXT} are read", text.len()));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| error.to_string())?;
    let literal = |token: &Token| {
        matches!(token, Token::Whitespace(_) | Token::Comma | Token::Number(..))
            || matches!(token, Token::SingleQuotedString(_))
    };
    let words = tokens.iter().filter(|token| !literal(&token.token)).count();
    if words > MAX_WORDS {
        return Err(format!(
            "it has {words} words and operators; at most {MAX_WORDS} are read: use IN for many values"
        ));
    }
    refuse_what_nests(&tokens)?;
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|error| error.to_string())?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(format!("'{}' is not expected{}", rest.token, rest.span.start));
    }
    convert(&expr, 0)
}

/// Refuses the words of SQL that nest and that a filter has not, before the parser reads them: what is in the parentheses of a
/// function it reads twice, which is 2^n times where they are n deep.
fn refuse_what_nests(tokens: &[TokenWithSpan]) -> Result<(), String> {
    let tokens = tokens.iter().map(|token| &token.token);
    let mut words = tokens.filter(|token| !matches!(token, Token::Whitespace(_))).peekable();
    let mut before: Option<&Token> = None;
    while let Some(token) = words.next() {
        match (token, before, words.peek()) {
            (Token::LParen, _, Some(Token::Word(word)))
                if matches!(word.keyword, Keyword::SELECT | Keyword::WITH) =>
            {
                return Err(not_supported("a subquery"));
            }
            // `TIMESTAMP(3) '...'`
            (Token::LParen, Some(Token::Word(word)), Some(Token::Number(..)))
                if word.keyword == Keyword::TIMESTAMP => {}
            (Token::LParen, Some(Token::Word(word)), _) if !PRECEDES.contains(&word.keyword) => {
                return Err(not_supported(&format!("the function {word}")));
            }
            (Token::LBracket | Token::LBrace, _, _) => return Err(not_supported(&format!("'{token}'"))),
            _ => {}
        }
        before = Some(token);
    }
    Ok(())
}

/// Words after which a condition or a list may stand in parentheses.
const PRECEDES: [Keyword; 7] =
    [Keyword::AND, Keyword::OR, Keyword::NOT, Keyword::IN, Keyword::BETWEEN, Keyword::LIKE, Keyword::ILIKE];

fn convert(expr: &Expr, depth: usize) -> Result<Condition, String> {
    if depth > MAX_DEPTH {
        return Err(format!("it is nested more than {MAX_DEPTH} deep"));
    }
    let depth = depth + 1;
    Ok(match expr {
        Expr::Nested(inner) => convert(inner, depth)?,
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => negate(true, convert(expr, depth)?),
        Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => {
            let parts = chain(expr, op).into_iter().map(|part| convert(part, depth));
            let parts = parts.collect::<Result<_, _>>()?;
            if *op == BinaryOperator::And { Condition::All(parts) } else { Condition::Any(parts) }
        }
        Expr::BinaryOp { left, op, right } => {
            let Some(operator) = operator(op) else { return Err(unsupported(expr)) };
            compare(operand(left)?, operator, operand(right)?)?
        }
        Expr::IsNull(inner) => Condition::IsNull(column(inner)?),
        Expr::IsNotNull(inner) => Condition::IsNotNull(column(inner)?),
        Expr::In { expr: of, target: InTarget::List(list), negated, global: false } => {
            let of = operand(of)?;
            let equal = |item| compare(of.clone(), Operator::Equal, operand(item)?);
            negate(*negated, Condition::Any(list.iter().map(equal).collect::<Result<_, _>>()?))
        }
        Expr::Between { expr, negated, low, high } => {
            let of = operand(expr)?;
            let low = compare(of.clone(), Operator::GreaterOrEqual, operand(low)?)?;
            let high = compare(of, Operator::LessOrEqual, operand(high)?)?;
            negate(*negated, Condition::All(vec![low, high]))
        }
        Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
            like(*negated, expr, pattern, false)?
        }
        Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
            like(*negated, expr, pattern, true)?
        }
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) => match operand(expr)? {
            Operand::Column(name) => Condition::Column(name),
            Operand::Literal(Literal::Boolean(value)) => Condition::Constant(Some(value)),
            Operand::Literal(Literal::Null) => Condition::Constant(None),
            Operand::Literal(other) => {
                return Err(format!("{other} is no condition: compare a column with it"));
            }
        },
        other => return Err(unsupported(other)),
    })
}

/// The parts that `op` joins: the parser makes a tree as deep as the chain is long, and this walks it without recursion.
fn chain<'a>(expr: &'a Expr, op: &BinaryOperator) -> Vec<&'a Expr> {
    let (mut parts, mut left) = (Vec::new(), vec![expr]);
    while let Some(next) = left.pop() {
        match next {
            Expr::BinaryOp { left: first, op: joins, right } if joins == op => {
                left.extend([&**right, &**first]);
            }
            part => parts.push(part),
        }
    }
    parts
}

fn negate(negated: bool, condition: Condition) -> Condition {
    if negated { Condition::Not(Box::new(condition)) } else { condition }
}

fn compare(left: Operand, operator: Operator, right: Operand) -> Result<Condition, String> {
    let comparison = match (left, right) {
        (Operand::Column(column), with) => Comparison { column, operator, with },
        (with @ Operand::Literal(_), Operand::Column(column)) => {
            Comparison { column, operator: operator.turned(), with }
        }
        (Operand::Literal(left), Operand::Literal(right)) => {
            return Err(format!("{left} and {right} are compared: one of them has to be a column"));
        }
    };
    Ok(Condition::Compare(comparison))
}

fn like(negated: bool, of: &Expr, pattern: &Expr, any_case: bool) -> Result<Condition, String> {
    let column = column(of)?;
    let Operand::Literal(Literal::Text(pattern)) = operand(pattern)? else {
        return Err(format!("the pattern of LIKE has to be text in single quotes, and is {pattern}"));
    };
    Ok(negate(negated, Condition::Like(Like { column, pattern, any_case })))
}

fn operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Equal,
        BinaryOperator::NotEq => Operator::NotEqual,
        BinaryOperator::Lt => Operator::Less,
        BinaryOperator::LtEq => Operator::LessOrEqual,
        BinaryOperator::Gt => Operator::Greater,
        BinaryOperator::GtEq => Operator::GreaterOrEqual,
        _ => return None,
    })
}

fn column(expr: &Expr) -> Result<String, String> {
    match operand(expr)? {
        Operand::Column(name) => Ok(name),
        Operand::Literal(literal) => Err(format!("{literal} stands where a column has to")),
    }
}

fn operand(expr: &Expr) -> Result<Operand, String> {
    let mut expr = expr;
    // Not by recursion: how deep parentheses are is the parser's to bound, and so it is done.
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    let literal = match expr {
        Expr::Identifier(name) => return Ok(Operand::Column(name.value.clone())),
        Expr::CompoundIdentifier(_) => {
            return Err(format!(
                "{expr} names a part of a column: a column with a dot in its name goes in double quotes"
            ));
        }
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => Literal::Number(digits.clone()),
            Value::SingleQuotedString(text) => Literal::Text(text.clone()),
            Value::Boolean(value) => Literal::Boolean(*value),
            Value::Null => Literal::Null,
            _ => return Err(unsupported(expr)),
        },
        Expr::UnaryOp { op: sign @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: of } => match &**of {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) if *sign == UnaryOperator::Minus => {
                    Literal::Number(format!("-{digits}"))
                }
                Value::Number(digits, _) => Literal::Number(digits.clone()),
                _ => return Err(unsupported(expr)),
            },
            _ => return Err(unsupported(expr)),
        },
        Expr::TypedString(typed) => match (&typed.data_type, &typed.value.value) {
            (SqlType::Date | SqlType::Timestamp(..), Value::SingleQuotedString(text)) => {
                Literal::Text(text.clone())
            }
            _ => return Err(unsupported(expr)),
        },
        _ => return Err(unsupported(expr)),
    };
    Ok(Operand::Literal(literal))
}

/// Names what SQL has and a filter has not. The expression is not shown as a whole: showing it recurses as deep as it is.
fn unsupported(expr: &Expr) -> String {
    let what = match expr {
        Expr::Function(function) => format!("the function {}", function.name),
        Expr::BinaryOp { op, .. } => format!("the operator {op}"),
        Expr::UnaryOp { op, .. } => format!("the operator {op}"),
        Expr::Subquery(_) | Expr::Exists { .. } => "a subquery".to_owned(),
        Expr::In { .. } => "IN with anything but a list".to_owned(),
        Expr::Cast { .. } => "CAST".to_owned(),
        Expr::Case { .. } => "CASE".to_owned(),
        Expr::Like { .. } | Expr::ILike { .. } => "LIKE with ANY or ESCAPE".to_owned(),
        Expr::SimilarTo { .. } => "SIMILAR TO".to_owned(),
        Expr::RLike { .. } => "RLIKE".to_owned(),
        Expr::Between { .. } | Expr::IsNull(_) | Expr::IsNotNull(_) => "a condition as a value".to_owned(),
        Expr::IsTrue(_) | Expr::IsNotTrue(_) | Expr::IsFalse(_) | Expr::IsNotFalse(_) => {
            "IS TRUE or IS FALSE".to_owned()
        }
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => "IS DISTINCT FROM".to_owned(),
        Expr::Tuple(_) => "a tuple".to_owned(),
        Expr::TypedString(typed) => format!("a literal of type {}", typed.data_type),
        Expr::Interval(_) => "INTERVAL".to_owned(),
        _ => "this kind of expression".to_owned(),
    };
    not_supported(&what)
}

fn not_supported(what: &str) -> String {
    format!(
        "{what} is not supported: there are comparisons of columns with literals, AND, OR, NOT, IS NULL, IN, BETWEEN and LIKE"
    )
}
