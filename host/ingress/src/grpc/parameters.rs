//! Parameters of requests and responses, to and from their messages.

use std::collections::HashMap;

use vespid_types::{Error, Parameter, Parameters};

use super::proto::InferParameter;
use super::proto::infer_parameter::ParameterChoice;
use crate::wire::fault::name;
use crate::wire::options;

pub(super) type Messages = HashMap<String, InferParameter>;

/// The parameters of the request as a whole.
pub(super) fn decode(messages: Messages) -> Result<Parameters, Error> {
    let one = |(key, message): (String, InferParameter)| {
        let refuse = |reason: String| Error::invalid(format!("parameters.{}: {reason}", name(&key)));
        let value = match message.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Int(value),
            Some(ParameterChoice::Uint64Param(value)) => options::whole(value),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Double(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::Text(value),
            None => return Err(refuse("it has no value: set one of its fields".to_owned())),
        };
        Ok((key, value))
    };
    messages.into_iter().map(one).collect()
}

pub(super) fn encode(parameters: Parameters) -> Messages {
    parameters.into_iter().map(|(key, value)| (key, one(value))).collect()
}

pub(super) fn one(value: Parameter) -> InferParameter {
    let choice = match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int(value) => ParameterChoice::Int64Param(value),
        Parameter::Double(value) => ParameterChoice::DoubleParam(value),
        Parameter::Text(value) => ParameterChoice::StringParam(value),
    };
    InferParameter { parameter_choice: Some(choice) }
}

/// What a parameter says, where it is a whole number.
pub(super) fn whole(message: &InferParameter) -> Option<u64> {
    match message.parameter_choice {
        Some(ParameterChoice::Int64Param(value)) => u64::try_from(value).ok(),
        Some(ParameterChoice::Uint64Param(value)) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_kind_come_and_go() {
        let parameters = Parameters::from([
            ("a".to_owned(), Parameter::Bool(true)),
            ("b".to_owned(), Parameter::Int(-3)),
            ("c".to_owned(), Parameter::Double(f64::INFINITY)),
            ("d".to_owned(), Parameter::Text("ä".to_owned())),
        ]);
        assert_eq!(decode(encode(parameters.clone())).unwrap(), parameters);
    }

    #[test]
    fn what_has_no_equal_is_named() {
        let decode = |choice| {
            let message = InferParameter { parameter_choice: choice };
            decode(HashMap::from([("p".to_owned(), message)])).map_err(|error| error.message().to_owned())
        };
        let largest = i64::MAX.unsigned_abs();
        let read = decode(Some(ParameterChoice::Uint64Param(largest))).unwrap();
        assert_eq!(read["p"], Parameter::Int(i64::MAX));
        let read = decode(Some(ParameterChoice::Uint64Param(largest + 1))).unwrap();
        assert_eq!(read["p"], Parameter::Text("9223372036854775808".to_owned()));
        assert_eq!(decode(None).unwrap_err(), "parameters.p: it has no value: set one of its fields");
    }
}
