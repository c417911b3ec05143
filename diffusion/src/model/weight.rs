//! A weight and its copy in the numbers that the network computes in.
use crate::Result;
use std::cell::RefCell;
use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

/// A variable of the network, f32. Where the network computes in bf16 a copy is cast when it is first
/// used and kept until the variable changes: once a step in training, once for good in sampling.
#[derive(Debug)]
pub(crate) struct Weight {
    variable: Tensor,
    copy: RefCell<Option<Copy>>,
}

/// A cast of the variable as it was at a version.
#[derive(Debug)]
struct Copy {
    /// Where the variable's numbers were: the moving average takes its place for a while.
    data: usize,
    version: i64,
    cast: Tensor,
}

impl Weight {
    /// All zero until weights are initialised or loaded.
    pub(crate) fn new(path: &Path, name: &str, shape: &[u32]) -> Result<Weight> {
        let shape: Vec<i64> = shape.iter().map(|&n| i64::from(n)).collect();
        let variable = path.f_var(name, &shape, Init::Const(0.0))?;
        Ok(Weight { variable, copy: RefCell::new(None) })
    }

    /// The variable itself.
    pub(crate) fn own(&self) -> &Tensor {
        &self.variable
    }

    /// The weight in a kind of number; its gradients are the variable's.
    pub(crate) fn of_kind(&self, kind: Kind) -> Result<Tensor> {
        let variable = &self.variable;
        if variable.kind() == kind {
            return Ok(variable.shallow_clone());
        }
        let (data, version) = (variable.data_ptr() as usize, variable.f_internal_version()?);
        let mut kept = self.copy.borrow_mut();
        let cast = match kept.take() {
            Some(copy)
                if copy.data == data && copy.version == version && copy.cast.kind() == kind =>
            {
                copy.cast
            }
            _ => variable.detach().f_to_kind(kind)?,
        };
        let weight = if variable.requires_grad() {
            torch_ext::copy_of(variable, &cast)?
        } else {
            cast.shallow_clone()
        };
        *kept = Some(Copy { data, version, cast });
        Ok(weight)
    }

    /// The weight in the kind of the activations.
    pub(crate) fn like(&self, x: &Tensor) -> Result<Tensor> {
        self.of_kind(x.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore, no_grad};

    #[test]
    fn a_copy_is_cast_again_when_its_weight_changed_and_not_before() {
        let store = VarStore::new(Device::Cpu);
        let weight = Weight::new(&store.root(), "weight", &[4]).unwrap();
        let place = |kind| weight.of_kind(kind).unwrap().data_ptr() as usize;
        let first = weight.of_kind(Kind::BFloat16).unwrap();
        assert_eq!(place(Kind::BFloat16), first.data_ptr() as usize);
        let _ = no_grad(|| weight.own().shallow_clone().fill_(3.0));
        assert_eq!(
            Vec::<f32>::try_from(weight.of_kind(Kind::BFloat16).unwrap()).unwrap(),
            [3.0; 4]
        );
        // The optimizer's and the average's ways to change it.
        let named = vec![("weight".to_owned(), weight.own().shallow_clone())];
        let mut adam = torch_ext::Adam::new(named, torch_ext::AdamOptions::default()).unwrap();
        let changed = |change: &mut dyn FnMut()| {
            let before = place(Kind::BFloat16);
            let kept = weight.of_kind(Kind::BFloat16).unwrap();
            change();
            assert_ne!(place(Kind::BFloat16), before, "the old copy was used");
            drop(kept);
        };
        weight.of_kind(Kind::BFloat16).unwrap().sum(Kind::Float).backward();
        changed(&mut || adam.step(0.1).unwrap());
        let average = Tensor::ones([4], (Kind::Float, Device::Cpu));
        changed(&mut || {
            let (to, from) = ([weight.own().detach()], [average.shallow_clone()]);
            torch_ext::lerp(&to, &from, 0.5).unwrap();
        });
        changed(&mut || weight.own().shallow_clone().f_set_data(&average).unwrap());
    }

    /// Two passes' gradients, one in f32 and one in bf16, sum up as they do without copies.
    #[test]
    fn gradients_reach_the_weight_through_its_copy() {
        let store = VarStore::new(Device::Cpu);
        let weight = Weight::new(&store.root(), "weight", &[3]).unwrap();
        for share in [1.0, 0.25] {
            let copy = weight.of_kind(Kind::BFloat16).unwrap();
            (copy.sum(Kind::Float) * share).backward();
        }
        let gradient = weight.own().grad();
        assert_eq!(gradient.kind(), Kind::Float);
        assert_eq!(Vec::<f32>::try_from(gradient).unwrap(), [1.25; 3]);
    }
}
