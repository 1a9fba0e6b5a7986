//! Names iris flowers by their measurements.

mod scaler;

use vespid_plugin::prelude::*;

const SPECIES: [&str; 3] = ["setosa", "versicolor", "virginica"];

struct Iris;

impl Model for Iris {
    fn describe() -> Result<Signature> {
        Ok(Signature::new()
            .input::<f32>("measurements", [ANY, 4])
            .output::<str>("species", [ANY])
            .output::<f32>("probabilities", [ANY, 3]))
    }

    fn predict(request: Request) -> Result<Response> {
        let measurements = request.input("measurements")?;
        let mut x = measurements.to_vec::<f32>()?;
        standardise(&mut x);
        let mut outputs = Graph::load("iris")?.compute([("X", Tensor::new(&x, measurements.shape())?)])?;
        let probabilities = outputs.take("probabilities")?;
        let species: Vec<&str> =
            probabilities.values::<f32>()?.chunks_exact(3).filter_map(likeliest).collect();
        Ok(Response::new()
            .output("species", Tensor::bytes(&species, [species.len()])?)
            .output("probabilities", probabilities))
    }
}

fn standardise(x: &mut [f32]) {
    for row in x.chunks_exact_mut(4) {
        for ((value, mean), scale) in row.iter_mut().zip(scaler::MEAN).zip(scaler::SCALE) {
            *value = (*value - mean) / scale;
        }
    }
}

fn likeliest(row: &[f32]) -> Option<&'static str> {
    let rated = row.iter().zip(SPECIES);
    rated.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, species)| species)
}

vespid_plugin::export!(Iris);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_nothing_and_the_species_is_the_likeliest() {
        vespid_plugin::testing::graph("iris", |inputs| {
            let x = inputs.get("X")?;
            let expected = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0f32];
            let values = x.values::<f32>()?;
            assert!(
                values.iter().zip(expected).all(|(value, expected)| (value - expected).abs() < 1e-5),
                "{values:?}"
            );
            assert_eq!(x.shape(), [2, 4]);
            Ok(vec![("probabilities", Tensor::new(&[0.1f32, 0.8, 0.1, 0.2, 0.3, 0.5], [2, 3])?)])
        });
        let above: Vec<f32> =
            scaler::MEAN.iter().zip(scaler::SCALE).map(|(mean, scale)| mean + scale).collect();
        let request = Request::new()
            .with("measurements", Tensor::new(&[&scaler::MEAN, above.as_slice()].concat(), [2, 4]).unwrap());
        let response = Iris::predict(request).unwrap();
        assert_eq!(response.get("species").unwrap().to_strings().unwrap(), ["versicolor", "virginica"]);
    }
}
