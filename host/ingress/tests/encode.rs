//! Responses, and the very bodies that they are written as.

#[cfg(test)]
mod tests {
    use vespid_ingress::wire::{OutputFormat, encode, error_body};
    use vespid_types::{Datatype, ErrorCode, NamedTensor, Parameter, Parameters, Response, Shape, Tensor};

    fn output(name: &str, datatype: Datatype, shape: &[u64], data: Vec<u8>) -> NamedTensor {
        NamedTensor {
            name: name.into(),
            tensor: Tensor::new(datatype, Shape::from(shape), data.into()).unwrap(),
        }
    }

    fn response(outputs: Vec<NamedTensor>) -> Response {
        Response {
            model: "iris".parse().unwrap(),
            version: "3".parse().unwrap(),
            id: None,
            parameters: Parameters::new(),
            outputs,
        }
    }

    fn json(response: &Response) -> Result<String, String> {
        match encode(response, &OutputFormat::json()) {
            Ok(body) => Ok(String::from_utf8(body.head.to_vec()).unwrap()),
            Err(error) => Err(error.message().to_owned()),
        }
    }

    #[test]
    fn json_is_the_protocol_s() {
        let floats: Vec<u8> = [0.1_f32, -0.0, 1e30].iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut response = response(vec![
            output("p", Datatype::Fp32, &[1, 3], floats),
            output("l\"", Datatype::Bytes, &[1], b"\x02\0\0\0\"\n".to_vec()),
            output("b", Datatype::Bool, &[2], vec![1, 0]),
            output("n", Datatype::Int16, &[0], vec![]),
        ]);
        response.id = Some("a\\".into());
        response.parameters.insert("f".into(), Parameter::Double(2.0));
        response.parameters.insert("t".into(), Parameter::Text("ä".into()));
        let body = encode(&response, &OutputFormat::json()).unwrap();
        assert_eq!((body.header_length, body.content_type), (None, "application/json"));
        assert!(body.tail.is_empty());
        assert_eq!(
            String::from_utf8(body.head.to_vec()).unwrap(),
            r#"{"model_name":"iris","model_version":"3","id":"a\\","parameters":{"f":2.0,"t":"ä"},"outputs":["#
                .to_owned()
                + r#"{"name":"p","datatype":"FP32","shape":[1,3],"data":[0.1,-0.0,1e30]},"#
                + r#"{"name":"l\"","datatype":"BYTES","shape":[1],"data":["\"\n"]},"#
                + r#"{"name":"b","datatype":"BOOL","shape":[2],"data":[true,false]},"#
                + r#"{"name":"n","datatype":"INT16","shape":[0],"data":[]}]}"#
        );
    }

    #[test]
    fn binary_outputs_follow_the_json() {
        let response = response(vec![
            output("a", Datatype::Uint8, &[2], vec![1, 2]),
            output("b", Datatype::Uint8, &[1], vec![3]),
            output("c", Datatype::Fp32, &[1], f32::NAN.to_le_bytes().to_vec()),
        ]);
        let body = encode(&response, &OutputFormat::binary().with("b", false)).unwrap();
        assert_eq!(
            (body.header_length, body.content_type),
            (Some(body.head.len()), "application/octet-stream")
        );
        assert_eq!(body.tail, [&[1, 2][..], &[0, 0, 0xc0, 0x7f]]);
        let json = String::from_utf8(body.head.to_vec()).unwrap();
        assert!(
            json.contains(
                r#"{"name":"a","datatype":"UINT8","shape":[2],"parameters":{"binary_data_size":2}}"#
            )
        );
        assert!(json.contains(r#"{"name":"b","datatype":"UINT8","shape":[1],"data":[3]}"#));
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        let infinite = [f64::NEG_INFINITY.to_le_bytes(), f64::NAN.to_le_bytes()].concat();
        assert_eq!(
            json(&response(vec![output("y", Datatype::Fp64, &[2], infinite)])).unwrap_err(),
            "output 'y': data[0] is -inf, which JSON cannot hold: ask for the output with the parameter binary_data: true"
        );
        assert!(json(&response(vec![output("y", Datatype::Bf16, &[1], vec![0xc0, 0x7f])])).is_err());
        assert_eq!(
            json(&response(vec![output("y", Datatype::Bytes, &[2], vec![0, 0, 0, 0, 1, 0, 0, 0, 0xff])]))
                .unwrap_err(),
            "output 'y': data[1] is not UTF-8 text, which is all that JSON can hold: ask for the output with the \
             parameter binary_data: true"
        );
        let mut response = response(vec![]);
        response.parameters.insert("f".into(), Parameter::Double(f64::NAN));
        let error = encode(&response, &OutputFormat::json()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::PluginFailed);
    }

    #[test]
    fn errors_are_escaped() {
        assert_eq!(&error_body("no \"x\"\n")[..], br#"{"error":"no \"x\"\n"}"#);
    }
}
