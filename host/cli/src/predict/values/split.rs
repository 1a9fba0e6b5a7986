//! Takes a text of values apart: `,` between values, `;` between rows, a backslash before what stands for itself.

/// One value as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The text, without the backslashes.
    Text(String),
    /// What follows an `@`.
    File(String),
}

/// Rows of equal length.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// The values row by row.
    pub(super) fields: Vec<Field>,
}

/// `None` where rows differ in length.
pub(super) fn split(text: &str) -> Option<Grid> {
    let mut rows = vec![Vec::new()];
    let mut field = Partial::default();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next_if(|next| matches!(next, ',' | ';' | '@' | '\\')) {
                Some(literal) => field.push(literal, true),
                None => field.push('\\', false),
            },
            ',' | ';' => {
                let whole = std::mem::take(&mut field).finish();
                rows.last_mut()?.push(whole);
                if character == ';' {
                    rows.push(Vec::new());
                }
            }
            other => field.push(other, false),
        }
    }
    rows.last_mut()?.push(field.finish());
    let columns = rows.first()?.len();
    let even = rows.iter().all(|row| row.len() == columns);
    even.then(|| Grid { rows: rows.len(), columns, fields: rows.into_iter().flatten().collect() })
}

#[derive(Default)]
struct Partial {
    text: String,
    file: bool,
}

impl Partial {
    fn push(&mut self, character: char, literal: bool) {
        if self.text.is_empty() && !self.file && character == '@' && !literal {
            self.file = true;
        } else {
            self.text.push(character);
        }
    }

    fn finish(self) -> Field {
        if self.file { Field::File(self.text) } else { Field::Text(self.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> (usize, usize, Vec<String>) {
        let grid = split(text).unwrap();
        let show = |field: Field| match field {
            Field::Text(text) => text,
            Field::File(path) => format!("<{path}>"),
        };
        (grid.rows, grid.columns, grid.fields.into_iter().map(show).collect())
    }

    #[test]
    fn rows_and_values_are_set_apart() {
        assert_eq!(fields("1,2;3,4"), (2, 2, ["1", "2", "3", "4"].map(String::from).to_vec()));
        assert_eq!(fields("a"), (1, 1, vec!["a".into()]));
        assert_eq!(fields(""), (1, 1, vec![String::new()]));
        assert!(split("1,2;3").is_none());
        assert!(split("1;").is_some_and(|grid| grid.rows == 2));
    }

    #[test]
    fn a_backslash_takes_the_next_literally() {
        assert_eq!(fields(r"a\,b\;c\\").2, [r"a,b;c\"]);
        assert_eq!(fields(r"\@a,@b.txt,c@d,C:\e").2, ["@a", "<b.txt>", "c@d", r"C:\e"]);
    }
}
