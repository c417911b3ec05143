//! Arithmetic on tensors that reads like the formula and cannot panic.
//!
//! tch has operators, which panic where libtorch refuses, and methods, which return a `Result` for every
//! step. Here [`t`] makes a [`Term`] of a tensor: `+`, `-`, `*`, `/` among terms, tensors and numbers call
//! those methods, the first error skips whatever follows, and [`Term::value`] gives the tensor or the error:
//!
//! ```
//! use tch::Tensor;
//! use torch_ext::t;
//!
//! /// y' = (y − d·ε) / √α, for `[B,3,H,W]`.
//! fn denoised(y: &Tensor, epsilon: &Tensor, d: f64, alpha: f64) -> Result<Tensor, torch_ext::Error> {
//!     ((t(y) - d * t(epsilon)) / alpha.sqrt()).value()
//! }
//!
//! let (y, epsilon) = (Tensor::from_slice(&[3.0_f32, 5.0]), Tensor::from_slice(&[1.0_f32, 2.0]));
//! let denoised = denoised(&y, &epsilon, 2.0, 0.25).unwrap();
//! assert_eq!(Vec::<f32>::try_from(denoised).unwrap(), [2.0, 2.0]);
//! let error = (t(&y) + Tensor::from_slice(&[1.0_f32, 2.0, 3.0])).value().unwrap_err();
//! assert!(error.to_string().contains("size of tensor"));
//! ```
//!
//! What always holds: an operator is one call of libtorch in the order in which the formula is written, so
//! the bits are those of the methods; a term borrows its tensor or owns an intermediate result, nothing is
//! copied. Other functions, fused ones too, come in by [`Term::map`].
use crate::Error;
use std::ops::{Add, Div, Mul, Neg, Sub};
use tch::{TchError, Tensor};

/// A part of a formula: a tensor, the result of operations, or the first error among them.
#[derive(Debug)]
#[must_use = "a formula is an error or a tensor: ask for its value"]
pub struct Term<'a>(Result<Held<'a>, TchError>);

#[derive(Debug)]
enum Held<'a> {
    Borrowed(&'a Tensor),
    Owned(Tensor),
}

/// A tensor as a term of a formula.
pub fn t<'a>(tensor: impl Into<Term<'a>>) -> Term<'a> {
    tensor.into()
}

impl<'a> From<&'a Tensor> for Term<'a> {
    fn from(tensor: &'a Tensor) -> Term<'a> {
        Term(Ok(Held::Borrowed(tensor)))
    }
}

impl From<Tensor> for Term<'_> {
    fn from(tensor: Tensor) -> Self {
        Term(Ok(Held::Owned(tensor)))
    }
}

impl Held<'_> {
    fn tensor(&self) -> &Tensor {
        match self {
            Held::Borrowed(tensor) => tensor,
            Held::Owned(tensor) => tensor,
        }
    }
}

impl Term<'_> {
    /// A function of the term: `t(x).map(Tensor::f_square)`.
    pub fn map<'b>(self, function: impl FnOnce(&Tensor) -> Result<Tensor, TchError>) -> Term<'b> {
        Term(self.0.and_then(|held| function(held.tensor())).map(Held::Owned))
    }

    /// The tensor; one that nothing was done to is shared, not copied.
    ///
    /// # Errors
    /// The first one of the formula, in libtorch's words.
    pub fn value(self) -> Result<Tensor, Error> {
        Ok(match self.0? {
            Held::Borrowed(tensor) => tensor.shallow_clone(),
            Held::Owned(tensor) => tensor,
        })
    }

    fn with<'b>(
        self,
        other: Term<'_>,
        operation: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor, TchError>,
    ) -> Term<'b> {
        let both = self.0.and_then(|a| Ok((a, other.0?)));
        Term(both.and_then(|(a, b)| operation(a.tensor(), b.tensor())).map(Held::Owned))
    }
}

/// An operator between terms, a term and a tensor, a term and a number.
macro_rules! operator {
    ($operator:ident, $method:ident, $tensors:ident, $number:ident) => {
        operator!($operator, $method, $tensors: Term<'_>, &Tensor, Tensor);

        impl $operator<f64> for Term<'_> {
            type Output = Term<'static>;

            fn $method(self, number: f64) -> Term<'static> {
                self.map(|tensor| tensor.$number(number))
            }
        }
    };
    ($operator:ident, $method:ident, $tensors:ident: $($other:ty),+) => {$(
        impl $operator<$other> for Term<'_> {
            type Output = Term<'static>;

            fn $method(self, other: $other) -> Term<'static> {
                self.with(t(other), Tensor::$tensors)
            }
        }
    )+};
}

operator!(Add, add, f_add, f_add_scalar);
operator!(Sub, sub, f_sub, f_sub_scalar);
operator!(Mul, mul, f_mul, f_mul_scalar);
operator!(Div, div, f_div, f_div_scalar);

impl Add<Term<'_>> for f64 {
    type Output = Term<'static>;

    fn add(self, term: Term<'_>) -> Term<'static> {
        term + self
    }
}

impl Sub<Term<'_>> for f64 {
    type Output = Term<'static>;

    fn sub(self, term: Term<'_>) -> Term<'static> {
        term.map(|tensor| tensor.f_rsub_scalar(self))
    }
}

impl Mul<Term<'_>> for f64 {
    type Output = Term<'static>;

    fn mul(self, term: Term<'_>) -> Term<'static> {
        term * self
    }
}

impl Neg for Term<'_> {
    type Output = Term<'static>;

    fn neg(self) -> Term<'static> {
        self.map(Tensor::f_neg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(term: Term) -> Vec<f32> {
        Vec::try_from(term.value().unwrap()).unwrap()
    }

    #[test]
    fn operators_are_those_of_the_numbers() {
        let (a, b) = (Tensor::from_slice(&[6.0_f32, 1.0]), Tensor::from_slice(&[3.0_f32, 4.0]));
        assert_eq!(numbers(t(&a) + &b), [9.0, 5.0]);
        assert_eq!(numbers(t(&a) - t(&b)), [3.0, -3.0]);
        assert_eq!(numbers(t(&a) * b.shallow_clone()), [18.0, 4.0]);
        assert_eq!(numbers(t(&a) / &b), [2.0, 0.25]);
        assert_eq!(numbers((t(&a) + 1.0) * 2.0), [14.0, 4.0]);
        assert_eq!(numbers((t(&a) - 1.0) / 2.0), [2.5, 0.0]);
        assert_eq!(numbers(1.0 - 2.0 * t(&a)), [-11.0, -1.0]);
        assert_eq!(numbers(1.0 + -t(&a)), [-5.0, 0.0]);
        assert_eq!(numbers((t(&a) - &b).map(Tensor::f_square)), [9.0, 9.0]);
    }

    #[test]
    fn the_first_error_is_the_formulas_and_nothing_panics() {
        let (two, three) = (Tensor::from_slice(&[1_i64, 2]), Tensor::from_slice(&[1_i64, 2, 3]));
        let wrong = || t(&two) + &three;
        for term in [wrong() * 2.0, 1.0 - wrong(), t(&two) * wrong(), -wrong()] {
            let error = term.map(|_| unreachable!("there is nothing to map")).value().unwrap_err();
            assert!(error.to_string().contains("size of tensor a (2)"), "{error}");
        }
        // Of two errors it is the left one.
        let other = t(&three) + &Tensor::from_slice(&[1_i64; 5]);
        let error = (wrong() + other).value().unwrap_err();
        assert!(error.to_string().contains("size of tensor a (2)"), "{error}");
    }

    #[test]
    fn a_tensor_alone_is_shared() {
        let a = Tensor::from_slice(&[1.0_f32]);
        assert_eq!(t(&a).value().unwrap().data_ptr(), a.data_ptr());
    }
}
