//! Requests as bodies, and what they are read as: the files under `tests/cases/infer` (its README says how).

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::path::Path;

    use serde::Deserialize;
    use serde_json::Value;
    use vespid_ingress::wire::decode;
    use vespid_types::{Error, ModelRef, Parameter, Signature};

    #[derive(Deserialize)]
    struct Case {
        about: String,
        #[serde(default)]
        body: Value,
        #[serde(default)]
        hex: String,
        header: Option<String>,
        #[serde(default)]
        model: Signature,
        #[serde(flatten)]
        expected: BTreeMap<String, Value>,
    }

    #[test]
    fn bodies_are_read_as_the_cases_say() {
        let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("tests/cases/infer");
        let mut departures = String::new();
        let mut run = 0;
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for case in cases {
                run += 1;
                let read = read(&case);
                if read != case.expected {
                    let file = path.file_name().unwrap().display();
                    let show = |values| serde_json::to_string(values).unwrap();
                    writeln!(
                        departures,
                        "{file}: {}\n     got {}\nexpected {}",
                        case.about,
                        show(&read),
                        show(&case.expected)
                    )
                    .unwrap();
                }
            }
        }
        assert!(run > 50, "only {run} cases were found");
        assert!(departures.is_empty(), "\n{departures}");
    }

    /// What the case is read as, in the words of its file.
    fn read(case: &Case) -> BTreeMap<String, Value> {
        let mut body = match &case.body {
            Value::Null => Vec::new(),
            Value::String(text) => text.clone().into_bytes(),
            value => {
                // Errors say where in the body they are, whatever order serde_json keeps.
                let mut value = value.clone();
                value.sort_all_objects();
                serde_json::to_vec(&value).unwrap()
            }
        };
        let json = body.len().to_string();
        let header = case.header.as_deref().map(|header| if header == "json" { &json } else { header });
        body.extend_from_slice(&hex::decode(&case.hex).unwrap());
        let target = ModelRef { name: "m".parse().unwrap(), version: None };

        let mut read = BTreeMap::new();
        let (request, format) = match decode(body.into(), header, target, &case.model) {
            Ok(decoded) => decoded,
            Err(error) => return refusal(&error),
        };
        let inputs = request.inputs.iter().map(|input| {
            let tensor = &input.tensor;
            let data = hex::encode(tensor.data());
            Value::from(format!("{} {} {} {data}", input.name, tensor.datatype(), tensor.shape()))
        });
        read.insert("inputs".to_owned(), inputs.collect());
        if let Some(id) = request.id {
            read.insert("id".to_owned(), id.into());
        }
        if !request.parameters.is_empty() {
            let parameters = request.parameters.into_iter().map(|(name, value)| (name, value_of(value)));
            read.insert("parameters".to_owned(), Value::Object(parameters.collect()));
        }
        let mut binary: Vec<&str> = request.outputs.iter().map(String::as_str).collect();
        binary.retain(|output| format.is_binary(output));
        if format.is_binary("any other") {
            binary.insert(0, "*");
        }
        if !binary.is_empty() {
            read.insert("binary".to_owned(), binary.into());
        }
        let classes = request
            .outputs
            .iter()
            .filter_map(|output| Some((output.clone(), Value::from(format.classes(output)?))));
        let classes: serde_json::Map<_, _> = classes.collect();
        if !classes.is_empty() {
            read.insert("classes".to_owned(), classes.into());
        }
        if !request.outputs.is_empty() {
            read.insert("outputs".to_owned(), request.outputs.into());
        }
        if request.deadline.is_some() {
            read.insert("timeout".to_owned(), true.into());
        }
        read
    }

    fn refusal(error: &Error) -> BTreeMap<String, Value> {
        let mut read = BTreeMap::from([("error".to_owned(), error.message().into())]);
        if error.code().as_str() != "INVALID_ARGUMENT" {
            read.insert("code".to_owned(), error.code().as_str().into());
        }
        read
    }

    fn value_of(parameter: Parameter) -> Value {
        match parameter {
            Parameter::Bool(value) => value.into(),
            Parameter::Int(value) => value.into(),
            Parameter::Double(value) => value.into(),
            Parameter::Text(value) => value.into(),
        }
    }
}
