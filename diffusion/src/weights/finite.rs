//! NaN and infinite weights. They make black or white pictures, so every file of weights is looked at once
//! when it is read.
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Refuses weights with a value that is NaN or infinite, naming the first such tensor; `path` is where they are
/// from. One pass over the numbers.
///
/// # Errors
/// [`Error::NonFinite`].
pub fn check_finite(tensors: &[(String, Tensor)], path: &str) -> Result<()> {
    for (name, tensor) in tensors {
        if is_finite(tensor)? {
            continue;
        }
        let count = |what: Tensor| -> Result<i64> {
            Ok(i64::try_from(what.f_to_kind(Kind::Int64)?.f_sum(Kind::Int64)?)?)
        };
        return Err(Error::NonFinite {
            path: path.to_owned(),
            tensor: name.clone(),
            nan: count(tensor.f_isnan()?)?,
            infinite: count(tensor.f_isinf()?)?,
            of: tensor.numel(),
        });
    }
    Ok(())
}

/// Whether all numbers are finite. A sum of f32 in f64 is finite where, and only where, every term is.
fn is_finite(tensor: &Tensor) -> Result<bool> {
    let tensor = tensor.f_detach()?;
    Ok(f64::try_from(tensor.f_sum(Kind::Double)?)?.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tensor_that_is_not_finite_is_named() {
        let good = ("a".to_owned(), Tensor::from_slice(&[f32::MAX, f32::MAX, -f32::MAX, 0.0]));
        let check = |bad: &[f32]| {
            let bad = ("b.weight".to_owned(), Tensor::from_slice(bad));
            check_finite(&[(good.0.clone(), good.1.shallow_clone()), bad], "file")
        };
        assert!(check(&[1.0]).is_ok());
        for (bad, word) in [
            (&[1.0, f32::NAN][..], "1 of 2"),
            (&[f32::INFINITY, 0.0, f32::NEG_INFINITY], "2 of 3"),
            (&[f32::INFINITY, f32::NAN, f32::NEG_INFINITY], "3 of 3"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains("`b.weight`") && error.contains(word), "{error}");
        }
    }
}
