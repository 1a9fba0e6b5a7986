//! Whatever is written reads back as it was, and whatever comes is read or refused.

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use half::{bf16, f16};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use vespid_ingress::wire::{EncodedBody, OutputFormat, decode, encode, generate, openai, v1};
    use vespid_types::{
        Datatype, Extent, ModelRef, NamedTensor, Parameter, Parameters, Request, Response, Shape, Signature,
        Tensor, TensorSpec,
    };

    /// A tensor that JSON can hold: finite numbers, and text.
    fn tensor() -> impl Strategy<Value = Tensor> {
        let datatype = proptest::sample::select(&Datatype::ALL[..]);
        let shape = vec(0..4_u64, 0..4);
        (datatype, shape).prop_flat_map(|(datatype, shape)| {
            let elements = shape.iter().product::<u64>() as usize;
            (vec(element(datatype), elements)).prop_map(move |elements| {
                Tensor::new(datatype, Shape::from(&shape[..]), elements.concat().into()).unwrap()
            })
        })
    }

    fn element(datatype: Datatype) -> BoxedStrategy<Vec<u8>> {
        match datatype {
            Datatype::Bool => (0..2_u8).prop_map(|value| vec![value]).boxed(),
            Datatype::Bytes => ".{0,6}"
                .prop_map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat())
                .boxed(),
            // Patterns of bits rather than numbers: every value there is, the smallest and the largest among them.
            _ => vec(any::<u8>(), datatype.size().unwrap())
                .prop_filter("JSON holds finite numbers", move |bytes| is_finite(datatype, bytes))
                .boxed(),
        }
    }

    fn is_finite(datatype: Datatype, bytes: &[u8]) -> bool {
        match datatype {
            Datatype::Fp16 => f16::from_le_bytes(bytes.try_into().unwrap()).is_finite(),
            Datatype::Bf16 => bf16::from_le_bytes(bytes.try_into().unwrap()).is_finite(),
            Datatype::Fp32 => f32::from_le_bytes(bytes.try_into().unwrap()).is_finite(),
            Datatype::Fp64 => f64::from_le_bytes(bytes.try_into().unwrap()).is_finite(),
            _ => true,
        }
    }

    fn response() -> impl Strategy<Value = Response> {
        let parameter = prop_oneof![
            any::<bool>().prop_map(Parameter::Bool),
            any::<i64>().prop_map(Parameter::Int),
            ".*".prop_map(Parameter::Text),
        ];
        let parameters = proptest::collection::btree_map("p.*", parameter, 0..3);
        let outputs = vec((".{0,4}", tensor()), 0..4);
        (proptest::option::of(".*"), parameters, outputs).prop_map(|(id, parameters, outputs)| {
            let outputs = outputs.into_iter().enumerate();
            Response {
                model: "m".parse().unwrap(),
                version: "1".parse().unwrap(),
                id,
                parameters,
                outputs: outputs
                    .map(|(index, (name, tensor))| NamedTensor { name: format!("{index}{name}"), tensor })
                    .collect(),
            }
        })
    }

    /// The body of a response as that of a request: the two differ in one word.
    fn as_request(body: &EncodedBody) -> (Bytes, Option<String>) {
        let json = String::from_utf8(body.head.to_vec()).unwrap();
        let at = json.rfind(",\"outputs\":[{\"name\"").or_else(|| json.rfind(",\"outputs\":[]")).unwrap();
        let json = format!("{},\"inputs\"{}", &json[..at], &json[at + 10..]);
        let header = body.header_length.map(|_| json.len().to_string());
        let mut bytes = json.into_bytes();
        bytes.extend(body.tail.iter().flatten());
        (bytes.into(), header)
    }

    fn read(body: Bytes, header: Option<&str>) -> Result<(Request, OutputFormat), vespid_types::Error> {
        let target = ModelRef { name: "m".parse().unwrap(), version: None };
        decode(body, header, target, &Signature::default())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_reads_back(response in response(), all in any::<bool>(), other in any::<Index>()) {
            let mut format = if all { OutputFormat::binary() } else { OutputFormat::json() };
            if !response.outputs.is_empty() {
                format = format.with(&response.outputs[other.index(response.outputs.len())].name, !all);
            }
            let body = encode(&response, &format).unwrap();
            let binary = response.outputs.iter().filter(|output| format.is_binary(&output.name)).count();
            prop_assert_eq!(body.tail.len(), binary);
            prop_assert_eq!(body.header_length, (binary > 0).then_some(body.head.len()));

            let (bytes, header) = as_request(&body);
            let (request, _) = read(bytes, header.as_deref()).unwrap();
            prop_assert_eq!(request.id, response.id);
            prop_assert_eq!(request.parameters, response.parameters);
            prop_assert_eq!(request.inputs, response.outputs);
        }

        #[test]
        fn damaged_bodies_are_read_or_refused(
            response in response(),
            all in any::<bool>(),
            damage in vec((any::<Index>(), prop_oneof![any::<u8>(), proptest::sample::select(&b"[]{}\",:\\-+.eE019tfnN "[..])], 0..4_u8), 1..6),
            header in proptest::option::of("[0-9]{1,4}"),
        ) {
            let format = if all { OutputFormat::binary() } else { OutputFormat::json() };
            let (bytes, length) = as_request(&encode(&response, &format).unwrap());
            let mut bytes = bytes.to_vec();
            for (at, byte, kind) in damage {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
            }
            let bytes = Bytes::from(bytes);
            for header in [length, header, None] {
                if let Err(error) = read(bytes.clone(), header.as_deref()) {
                    prop_assert!(!error.message().is_empty() && error.message().len() < 2000);
                }
            }
        }

        #[test]
        fn data_of_any_form_is_read_or_refused(
            data in "[\\[\\],0-9eE.\\-\" tfn\\\\]{0,40}",
            datatype in proptest::sample::select(&Datatype::ALL[..]),
            shape in vec(prop_oneof![0..3_u64, any::<u64>()], 0..4),
        ) {
            let body = format!(r#"{{"inputs":[{{"data":[{data}],"name":"x","shape":{shape:?},"datatype":"{datatype}"}}]}}"#);
            if let Ok((request, _)) = read(body.into(), None) {
                prop_assert_eq!(&request.inputs[0].tensor.shape()[..], &shape[..]);
            }
        }
    }

    /// A model of one input and of one output, of the same datatype and shape.
    fn one_in_one_out(datatype: Datatype, rank: usize) -> Signature {
        let spec = |name: &str| TensorSpec {
            name: name.into(),
            datatype,
            shape: vec![Extent::Any; rank],
            optional: false,
        };
        Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn rows_that_are_written_read_back(tensor in tensor(), named in any::<bool>()) {
            // Of what is empty the shape is not to be seen, and a single value is no row.
            prop_assume!(!tensor.is_empty() && !tensor.shape().is_empty());
            let mut outputs = vec![NamedTensor { name: "x".into(), tensor: tensor.clone() }];
            if named {
                outputs.push(outputs[0].clone());
                outputs[1].name = "z".into();
            }
            let (model, version) = ("m".parse().unwrap(), "1".parse().unwrap());
            let response = Response { model, version, id: None, parameters: Parameters::new(), outputs };
            let written = v1::encode(&response).unwrap();
            let rows = String::from_utf8(written.to_vec()).unwrap().replacen("predictions", "instances", 1);
            let mut signature = one_in_one_out(tensor.datatype(), tensor.shape().len());
            if named {
                signature.inputs.push(TensorSpec { name: "z".into(), ..signature.inputs[0].clone() });
            }
            let target = ModelRef { name: "m".parse().unwrap(), version: None };
            let request = v1::decode(rows.as_bytes(), target, &signature).unwrap();
            prop_assert_eq!(request.inputs.len(), if named { 2 } else { 1 });
            for input in request.inputs {
                prop_assert_eq!(&input.tensor, &tensor);
            }
        }

        #[test]
        fn rows_and_values_of_any_form_are_read_or_refused(
            text in "[\\[\\],:{}0-9e.\\-\" txb64\\\\]{0,40}",
            datatype in proptest::sample::select(&Datatype::ALL[..]),
            rank in 0..3_usize,
        ) {
            let signature = one_in_one_out(datatype, rank);
            let target = || ModelRef { name: "m".parse().unwrap(), version: None };
            let body = format!(r#"{{"instances":[{text}],"x":[{text}],"model":"m","input":[{text}]}}"#);
            let refusals = [
                v1::decode(body.as_bytes(), target(), &signature).err(),
                generate::decode(body.as_bytes(), target(), &signature).err(),
                openai::EmbeddingsRequest::read(body.as_bytes())
                    .and_then(|request| request.decode(&signature))
                    .err()
                    .map(|fault| fault.error),
            ];
            for error in refusals.into_iter().flatten() {
                prop_assert!(!error.message().is_empty() && error.message().len() < 2000);
            }
        }
    }

    #[test]
    fn bombs_in_rows_and_values_are_refused_with_a_short_message() {
        let mebibyte = 1 << 20;
        let nested = format!("{}{}", "[".repeat(mebibyte), "]".repeat(mebibyte));
        let objects = format!("{}1{}", "{\"a\":".repeat(mebibyte), "}".repeat(mebibyte));
        let fields = (0..100_000).map(|n| format!("\"{n}\":0,")).collect::<String>();
        let long = "x".repeat(mebibyte);
        let target = || ModelRef { name: "m".parse().unwrap(), version: None };
        let signature = one_in_one_out(Datatype::Fp32, 2);
        for value in [
            nested.clone(),
            format!("[{objects}]"),
            objects,
            format!("[{{{fields}\"a\":0}}]"),
            format!("[\"{long}\"]"),
            format!("[{{\"{long}\":1}}]"),
            format!("[[1],{nested}]"),
            format!("[[{}1]]", "1,".repeat(mebibyte)),
        ] {
            let rows = format!(r#"{{"instances":{value}}}"#);
            if let Err(error) = v1::decode(rows.as_bytes(), target(), &signature) {
                assert!(error.message().len() < 1000, "{}", error.message().len());
            }
            let values = format!(r#"{{"x":{value},"parameters":{{"x":{value}}}}}"#);
            if let Err(error) = generate::decode(values.as_bytes(), target(), &signature) {
                assert!(error.message().len() < 1000, "{}", error.message().len());
            }
            let texts = format!(r#"{{"model":"m","input":{value}}}"#);
            let read = openai::EmbeddingsRequest::read(texts.as_bytes());
            if let Err(fault) = read.and_then(|request| request.decode(&one_in_one_out(Datatype::Bytes, 1))) {
                assert!(fault.error.message().len() < 1000);
            }
        }
        let many = format!("{{{fields}\"a\":0}}");
        assert!(generate::decode(many.as_bytes(), target(), &signature).is_err());
    }

    #[test]
    fn bombs_are_refused_with_a_short_message() {
        let mebibyte = 1 << 20;
        let input = |name: &str, shape: &str, data: &str| {
            format!(r#"{{"inputs":[{{"name":"{name}","shape":{shape},"datatype":"FP32","data":{data}}}]}}"#)
        };
        let open = "[".repeat(mebibyte);
        let nested = format!("{open}{}", "]".repeat(mebibyte));
        let objects = format!("{}1{}", "{\"a\":".repeat(mebibyte), "}".repeat(mebibyte));
        let long = "x".repeat(mebibyte);
        let ones = format!("[1{}]", ",1".repeat(mebibyte));
        for body in [
            open.clone(),
            objects.clone(),
            input("x", "[1]", &open),
            input("x", "[1]", &nested),
            input("x", &ones, "[1]"),
            input("x", &nested, "[1]"),
            input("x", "[4611686018427387904, 4]", "[1]"),
            input("x", "[1000000000000]", "[1]"),
            input("x", "[1]", &objects),
            input("x", "[1]", &format!("[\"{long}\"]")),
            input("x", "[1]", &format!("[{}]", "9".repeat(mebibyte))),
            input(&long, "[1]", "[true]"),
            input("x", &format!("\"{long}\""), "[1]"),
            format!(r#"{{"parameters":{{"{long}":{objects}}},"inputs":[]}}"#),
            format!(r#"{{"inputs":[],"outputs":[{{"name":"{long}"}},{{"name":"{long}"}}]}}"#),
            format!(
                r#"{{"inputs":[],"outputs":[{{"name":""}}{}]}}"#,
                r#",{"name":""}"#.repeat(mebibyte / 10)
            ),
            format!(
                r#"{{"parameters":{{{}"":0}},"inputs":[]}}"#,
                (0..100_000).map(|n| format!("\"{n}\":0,")).collect::<String>()
            ),
        ] {
            let error = read(body.clone().into(), None).unwrap_err();
            let length = error.message().len();
            assert!(length < 1000, "{length} characters of refusal for {}", &body[..40]);
        }
        // What is ignored may be nested as deep as it likes.
        let ignored = format!(r#"{{"x":{nested},"inputs":[]}}"#);
        assert!(read(ignored.into(), None).is_ok());
    }

    #[test]
    fn binary_tensors_share_the_body_and_the_answer_shares_them() {
        let json =
            r#"{"inputs":[{"name":"x","shape":[4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}"#;
        let mut body = json.as_bytes().to_vec();
        body.extend_from_slice(&[7; 16]);
        let body = Bytes::from(body);
        let start = body.as_ptr().wrapping_add(json.len());
        let (mut request, _) = read(body, Some(&json.len().to_string())).unwrap();
        let tensor = request.inputs.remove(0).tensor;
        assert_eq!(tensor.data().as_ptr(), start);

        let response = Response {
            model: "m".parse().unwrap(),
            version: "1".parse().unwrap(),
            id: None,
            parameters: Parameters::new(),
            outputs: vec![NamedTensor { name: "y".into(), tensor }],
        };
        let body = encode(&response, &OutputFormat::binary()).unwrap();
        assert_eq!(body.tail[0].as_ptr(), start);
        assert_eq!(body.len(), body.head.len() + 16);
    }
}
