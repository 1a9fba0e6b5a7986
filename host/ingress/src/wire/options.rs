//! The parameters of a request that mean something to the server: Triton's schedule policy and sequence extensions.
//!
//! Contract: they are taken out of the parameters, whichever protocol brought these; what is left is the model's business.
//! Each refusal names the parameter.

use std::time::Duration;

use vespid_types::{Deadline, Error, Parameter, Parameters, Priority, Sequence, SequenceId};

/// The levels of `priority` that a request can ask for.
pub(crate) const LEVELS: i64 = 100;

/// What a request's parameters say to the server.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    /// `timeout`, in microseconds from now; 0 for none.
    pub deadline: Option<Deadline>,
    /// `priority`: 1 is the most urgent, and what a request without it has.
    pub priority: Priority,
    /// `sequence_id`, `sequence_start` and `sequence_end`; none where the id is left out, 0 or empty.
    pub sequence: Option<Sequence>,
}

impl Options {
    /// Takes them out of `parameters`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the parameter's name.
    pub fn take(parameters: &mut Parameters) -> Result<Self, Error> {
        Ok(Self {
            deadline: take_timeout(parameters)?,
            priority: Priority { level: take_level(parameters)?, ..Priority::ONLINE },
            sequence: take_sequence(parameters)?,
        })
    }
}

/// A parameter that is a whole number. One beyond the integers of a parameter, which have a sign, is handed on as text: ids
/// of sequences go so far.
pub(crate) fn whole(value: u64) -> Parameter {
    i64::try_from(value).map_or_else(|_| Parameter::Text(value.to_string()), Parameter::Int)
}

fn take_timeout(parameters: &mut Parameters) -> Result<Option<Deadline>, Error> {
    match parameters.remove("timeout") {
        None | Some(Parameter::Int(0)) => Ok(None),
        Some(Parameter::Int(micros)) if micros > 0 => {
            Ok(Some(Deadline::after(Duration::from_micros(micros.unsigned_abs()))))
        }
        Some(_) => {
            Err(Error::invalid("parameters.timeout: expected a whole number of microseconds, 0 or more"))
        }
    }
}

fn take_level(parameters: &mut Parameters) -> Result<u8, Error> {
    let level = match parameters.remove("priority") {
        None => Some(0),
        Some(Parameter::Int(priority)) if (0..=LEVELS).contains(&priority) => {
            u8::try_from(priority.saturating_sub(1).max(0)).ok()
        }
        Some(_) => None,
    };
    level.ok_or_else(|| {
        Error::invalid(format!(
            "parameters.priority: expected a whole number up to {LEVELS}; 1 is the most urgent, and 0 stands for it"
        ))
    })
}

fn take_sequence(parameters: &mut Parameters) -> Result<Option<Sequence>, Error> {
    let [start, end] = ["sequence_start", "sequence_end"].map(|name| take_flag(parameters, name));
    let (start, end) = (start?, end?);
    let id = match parameters.remove("sequence_id") {
        None | Some(Parameter::Int(0)) => None,
        Some(Parameter::Int(number)) if number > 0 => Some(SequenceId::Number(number.unsigned_abs())),
        Some(Parameter::Text(text)) => match text.parse() {
            // As `whole` writes it.
            Ok(number) if number > i64::MAX.unsigned_abs() => Some(SequenceId::Number(number)),
            _ => (!text.is_empty()).then_some(SequenceId::Text(text)),
        },
        Some(_) => {
            return Err(Error::invalid(
                "parameters.sequence_id: expected a whole number, 1 or more, or a text",
            ));
        }
    };
    match id {
        None if start || end => Err(Error::invalid(
            "parameters.sequence_start and sequence_end are about a sequence: give its sequence_id",
        )),
        id => Ok(id.map(|id| Sequence { id, start, end })),
    }
}

fn take_flag(parameters: &mut Parameters, name: &str) -> Result<bool, Error> {
    match parameters.remove(name) {
        None => Ok(false),
        Some(Parameter::Bool(flag)) => Ok(flag),
        Some(_) => Err(Error::invalid(format!("parameters.{name}: expected true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take<const N: usize>(parameters: [(&str, Parameter); N]) -> Result<Options, String> {
        let mut parameters = parameters.map(|(name, value)| (name.to_owned(), value)).into();
        let options = Options::take(&mut parameters).map_err(|error| error.message().to_owned());
        assert!(options.is_err() || parameters.is_empty());
        options
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(take([]), Ok(Options::default()));
        let zeros = ["timeout", "priority", "sequence_id"].map(|name| (name, Parameter::Int(0)));
        assert_eq!(take(zeros), Ok(Options::default()));
    }

    #[test]
    fn priorities_are_levels_below_the_first() {
        let level =
            |priority| take([("priority", Parameter::Int(priority))]).map(|options| options.priority.level);
        assert_eq!([level(0), level(1), level(2), level(100)], [Ok(0), Ok(0), Ok(1), Ok(99)]);
        assert!(level(101).unwrap_err().starts_with("parameters.priority:"));
        assert!(level(-1).is_err());
    }

    #[test]
    fn sequences_have_ids_of_two_kinds() {
        let [start, end] = ["sequence_start", "sequence_end"].map(|name| (name, Parameter::Bool(true)));
        let named = take([("sequence_id", Parameter::Text("a".into())), start.clone()]).unwrap();
        let id = SequenceId::Text("a".into());
        assert_eq!(named.sequence, Some(Sequence { id, start: true, end: false }));
        let numbered = take([("sequence_id", Parameter::Int(7)), end]).unwrap();
        assert_eq!(numbered.sequence, Some(Sequence { id: SequenceId::Number(7), start: false, end: true }));
        let largest = take([("sequence_id", whole(u64::MAX))]).unwrap().sequence.unwrap();
        assert_eq!(largest.id, SequenceId::Number(u64::MAX));
        assert!(take([start]).unwrap_err().contains("give its sequence_id"));
        assert!(take([("sequence_id", Parameter::Int(-7))]).is_err());
        assert!(take([("sequence_end", Parameter::Int(1))]).unwrap_err().contains("sequence_end"));
    }
}
