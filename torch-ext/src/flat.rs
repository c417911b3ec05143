//! The tensors of a network in one: what is sent or added up goes in one piece.
use crate::Error;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Numbers that every tensor begins at a multiple of, so that kernels may read several at once.
const ALIGNED: usize = 64;

/// Where each of a list of tensors lies in a flat one.
#[derive(Debug, Clone)]
pub struct Layout {
    places: Vec<Place>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Place {
    size: Vec<i64>,
    stride: Vec<i64>,
    offset: usize,
}

impl Layout {
    /// The places of these tensors, in their order, each laid out as it is. Every one must fill its memory
    /// without gaps, as parameters do.
    pub fn of(tensors: &[Tensor]) -> Layout {
        let mut len = 0;
        let places = tensors
            .iter()
            .map(|tensor| {
                let offset = len;
                len = (len + tensor.numel()).next_multiple_of(ALIGNED);
                Place { size: tensor.size(), stride: tensor.stride(), offset }
            })
            .collect();
        Layout { places, len }
    }

    /// Numbers of the flat tensor, those between the tensors included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A flat f32 tensor of zeros.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn zeros(&self, device: Device) -> Result<Tensor, Error> {
        Ok(Tensor::f_zeros([self.len as i64], (Kind::Float, device))?)
    }

    /// The tensors in `flat`, which has at least [`Self::len`] numbers; they share its memory.
    ///
    /// # Errors
    /// When it is too short.
    pub fn views(&self, flat: &Tensor) -> Result<Vec<Tensor>, Error> {
        if flat.numel() < self.len || !flat.is_contiguous() {
            return Err(Error::Mismatch(format!(
                "{} numbers do not fit a flat tensor of shape {:?}",
                self.len,
                flat.size()
            )));
        }
        let view = |place: &Place| {
            Ok(flat.f_as_strided(&place.size, &place.stride, place.offset as i64)?)
        };
        self.places.iter().map(view).collect()
    }

    /// The tensors cut into `count` runs of about as many numbers each: the tensors of every run.
    pub fn runs(&self, count: usize) -> Vec<Range<usize>> {
        let bound = |run: usize| {
            let numbers = self.len * run / count;
            self.places.partition_point(|place| place.offset < numbers)
        };
        (0..count).map(|run| bound(run)..bound(run + 1)).collect()
    }

    /// Where a run of tensors lies in the flat one.
    pub fn span(&self, run: &Range<usize>) -> Range<usize> {
        let offset = |tensor: usize| self.places.get(tensor).map_or(self.len, |place| place.offset);
        offset(run.start)..offset(run.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_share_the_memory_and_keep_the_order_of_their_numbers() {
        let tensors = [
            Tensor::from_slice(&[1.0_f32, 2.0, 3.0]),
            Tensor::arange(24, (Kind::Float, Device::Cpu)).reshape([2, 3, 2, 2]),
            Tensor::from(5.0_f32),
        ];
        crate::set_channels_last(&tensors[1]).unwrap();
        let layout = Layout::of(&tensors);
        assert_eq!(layout.len(), 3 * ALIGNED);
        let flat = layout.zeros(Device::Cpu).unwrap();
        for (mut view, tensor) in layout.views(&flat).unwrap().into_iter().zip(&tensors) {
            assert_eq!(view.stride(), tensor.stride());
            view.copy_(tensor);
        }
        for (view, tensor) in layout.views(&flat).unwrap().iter().zip(&tensors) {
            assert!(view.equal(tensor));
        }
        let sum = flat.sum(Kind::Float).double_value(&[]);
        assert_eq!(sum, 6.0 + 276.0 + 5.0);
        assert!(layout.views(&flat.narrow(0, 0, 70)).is_err());
    }

    #[test]
    fn runs_are_all_tensors_in_order_and_their_spans_all_numbers() {
        let tensors: Vec<Tensor> = [100, 1, 5000, 70, 64, 900]
            .iter()
            .map(|&numbers| Tensor::zeros([numbers], (Kind::Float, Device::Cpu)))
            .collect();
        let layout = Layout::of(&tensors);
        for count in [1, 2, 3, 4, 6, 9] {
            let runs = layout.runs(count);
            assert_eq!(runs.len(), count);
            let tensors: Vec<usize> = runs.iter().cloned().flatten().collect();
            assert_eq!(tensors, [0, 1, 2, 3, 4, 5]);
            let mut end = 0;
            for run in &runs {
                let span = layout.span(run);
                assert_eq!(span.start, end, "{count}");
                end = span.end;
            }
            assert_eq!(end, layout.len());
        }
    }
}
