//! The numbers of the first layer, as ONNX Runtime computes them.

/// The constants of an approximate GELU, `half * x * (one + tanh(scale * (x + cubic * x³)))`.
pub(crate) struct Gelu {
    pub(crate) cubic: f32,
    pub(crate) scale: f32,
    pub(crate) one: f32,
    pub(crate) half: f32,
}

impl Gelu {
    /// Each operation is a node of its own in the graph: nothing is fused.
    pub(crate) fn of(&self, x: f32) -> f32 {
        let inner = self.scale * (x + x * (x * (self.cubic * x)));
        x * (self.half * (self.one + tanh(inner)))
    }
}

/// ONNX Runtime's `tanh`: a quotient of two polynomials, with fused multiply-adds. The coefficients have the digits of
/// its sources.
#[expect(clippy::excessive_precision, reason = "the digits can be looked up so")]
fn tanh(x: f32) -> f32 {
    const ODD: [f32; 7] = [
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ];
    const EVEN: [f32; 4] =
        [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03];
    let x = x.clamp(-9.0, 9.0);
    let square = x * x;
    polynomial(&ODD, square) * x / polynomial(&EVEN, square)
}

/// Horner's rule, from the highest coefficient down. The first step, from zero, changes nothing.
fn polynomial(coefficients: &[f32], x: f32) -> f32 {
    coefficients.iter().fold(0.0, |sum: f32, coefficient| sum.mul_add(x, *coefficient))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from ONNX Runtime 1.32's Tanh on x86-64.
    #[test]
    fn tanh_is_that_of_onnx_runtime_to_the_bit() {
        for (x, bits) in [
            (0.0, 0),
            (1e-4, 0x38d1_b715),
            (0.5, 0x3eec_9a9f),
            (1.0, 0x3f42_f7d6),
            (-3.0, 0xbf7e_bbe8),
            (7.9, 0x3f7f_fffc),
            // Past one: the quotient rounds so.
            (8.999, 0x3f80_0001),
            (9.0, 0x3f80_0000),
            (-20.0, 0xbf80_0000),
            (f32::INFINITY, 0x3f80_0000),
        ] {
            assert_eq!(tanh(x).to_bits(), bits, "tanh({x}) = {}", tanh(x));
        }
    }

    #[test]
    fn gelu_is_zero_far_below_zero_and_the_identity_far_above() {
        let gelu = Gelu { cubic: 0.044715, scale: 0.797_884_6, one: 1.0, half: 0.5 };
        assert_eq!([-10.0, 0.0, 10.0].map(|x| gelu.of(x)), [0.0, 0.0, 10.0]);
    }
}
