//! `CUDA_VISIBLE_DEVICES` as CUDA reads it, in terms of UUIDs.
//!
//! - Not set: every GPU. Empty: none.
//! - The first entry says what all are: numbers, `GPU-…` or `MIG-…`. The list ends before the first entry
//!   that is something else, negative, unknown or ambiguous; what follows is not visible.
//! - A UUID may be shortened as long as it is the beginning of one only. A MIG device also has the name
//!   `MIG-GPU-<uuid>/<GPU instance>/<compute instance>`.
//! - An entry that comes twice makes the list empty.
//! - Numbers count in CUDA's order: fastest first, unless `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`. Among
//!   cards of one model both are the same. Which of different models is the fastest only CUDA itself
//!   knows, so that numbers are then taken only where they name every card.
//!
//! (CUDA programming guide, "CUDA environment variables"; what it leaves open, such as duplicates and
//! spaces, is as in PyTorch's `torch.cuda`, which reads the variable to the same end.)
//!
//! In MIG mode CUDA shows a process one MIG device. Here all that are named are taken, because each job
//! gets one of them.

use registry::Gpu;

use super::nvml::{Card, Survey};

const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// The variable, and what it was found to name.
#[derive(Clone, Debug)]
pub(crate) struct Visible {
    text: Option<String>,
    by_bus: bool,
    /// The UUIDs that it named when all cards answered. From then on it means these: a number must not
    /// mean another card because one before it was lost.
    named: Option<Vec<String>>,
}

impl Visible {
    /// That of this process.
    pub fn from_env() -> Self {
        let text = std::env::var_os(VARIABLE).map(|text| text.to_string_lossy().into_owned());
        Self::new(text.as_deref(), std::env::var("CUDA_DEVICE_ORDER").ok().as_deref())
    }

    /// With this text and this order.
    pub fn new(text: Option<&str>, order: Option<&str>) -> Self {
        Self { text: text.map(str::to_owned), by_bus: order == Some("PCI_BUS_ID"), named: None }
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.text.is_some()
    }

    /// What it leaves visible, and what is wrong with it.
    pub fn choose(&mut self, survey: &Survey) -> (Vec<Gpu>, Option<String>) {
        let Some(text) = &self.text else {
            return (survey.cards.iter().flat_map(usable).cloned().collect(), None);
        };
        if let Some(named) = &self.named {
            let all: Vec<&Gpu> = survey.cards.iter().flat_map(usable).collect();
            let there = |uuid: &String| all.iter().find(|gpu| gpu.uuid == *uuid);
            return (named.iter().filter_map(there).map(|gpu| (*gpu).clone()).collect(), None);
        }
        let (gpus, remark) = read(text, self.by_bus, survey);
        if survey.silent.is_empty() && !gpus.is_empty() {
            self.named = Some(gpus.iter().map(|gpu| gpu.uuid.clone()).collect());
        }
        let remark = remark.map(|remark| format!("{VARIABLE} is `{text}`: {remark}"));
        (gpus.into_iter().cloned().collect(), remark)
    }
}

/// What of a card can be handed out.
fn usable(card: &Card) -> Vec<&Gpu> {
    match &card.parts {
        None => vec![&card.gpu],
        Some(parts) => parts.iter().map(|part| &part.gpu).collect(),
    }
}

/// What an entry names.
enum Named<'a> {
    Gpu(&'a Gpu),
    /// A card that did not answer.
    Silent,
    /// Nothing, for this reason.
    Nothing(String),
}

fn read<'a>(text: &str, by_bus: bool, survey: &'a Survey) -> (Vec<&'a Gpu>, Option<String>) {
    if text.trim().is_empty() {
        return (Vec::new(), Some("that hides every GPU".to_owned()));
    }
    let prefix = ["GPU-", "MIG-"].into_iter().find(|prefix| text.starts_with(prefix));
    let mut gpus: Vec<&Gpu> = Vec::new();
    let mut numbers: Vec<u32> = Vec::new();
    let mut end = None;
    for entry in text.split(',') {
        let named = match prefix {
            Some(prefix) if !entry.starts_with(prefix) => {
                Named::Nothing(format!("does not begin with {prefix} as the first one does"))
            }
            Some(_) => by_uuid(entry, survey),
            None => match number(entry) {
                None => Named::Nothing("is not the number of a GPU".to_owned()),
                Some(number) if numbers.contains(&number) => return (Vec::new(), twice(entry)),
                Some(number) => {
                    numbers.push(number);
                    by_number(number, survey)
                }
            },
        };
        match named {
            Named::Gpu(gpu) if gpus.contains(&gpu) => return (Vec::new(), twice(entry)),
            Named::Gpu(gpu) => gpus.push(gpu),
            Named::Silent => {}
            Named::Nothing(why) => {
                end = Some(format!("CUDA stops before `{}`, which {why}", entry.trim()));
                break;
            }
        }
    }
    if !numbers.is_empty() && !by_bus && is_ambiguous(&numbers, survey) {
        let remark = "the cards are of different models, and by number CUDA counts the fastest \
                      first, which only CUDA knows; name them by UUID (`nvidia-smi -L`) or set \
                      CUDA_DEVICE_ORDER=PCI_BUS_ID";
        return (Vec::new(), Some(remark.to_owned()));
    }
    (gpus, end)
}

fn twice(entry: &str) -> Option<String> {
    Some(format!("`{}` comes twice, by which CUDA hides every GPU", entry.trim()))
}

/// The number that an entry begins with, as C's `strtol` reads it.
fn number(entry: &str) -> Option<u32> {
    let entry = entry.trim_start();
    let digits = entry.strip_prefix('+').unwrap_or(entry);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn by_number(number: u32, survey: &Survey) -> Named<'_> {
    if survey.silent.iter().any(|(index, _)| *index == number) {
        return Named::Silent;
    }
    let Some(card) = survey.cards.iter().find(|card| card.index == number) else {
        return Named::Nothing(match survey.cards.len() + survey.silent.len() {
            0 => "is too high: there is no GPU".to_owned(),
            count => format!("is too high: they are numbered from 0 to {}", count - 1),
        });
    };
    first(card)
}

/// What CUDA shows of a card that is named as a whole: in MIG mode its first MIG device.
fn first(card: &Card) -> Named<'_> {
    match usable(card).first() {
        Some(gpu) => Named::Gpu(gpu),
        None => Named::Nothing("is in MIG mode and has no MIG device".to_owned()),
    }
}

fn by_uuid<'a>(entry: &str, survey: &'a Survey) -> Named<'a> {
    let mut found: Vec<Named<'a>> = Vec::new();
    for card in &survey.cards {
        if card.gpu.uuid.starts_with(entry) {
            found.push(first(card));
        }
        for part in card.parts.iter().flatten() {
            if part.gpu.uuid.starts_with(entry) || part.old_name.as_deref() == Some(entry) {
                found.push(Named::Gpu(&part.gpu));
            }
        }
    }
    match found.len() {
        1 => found.remove(0),
        0 if !survey.silent.is_empty() => Named::Silent,
        0 => Named::Nothing("no GPU here is called".to_owned()),
        several => Named::Nothing(format!("is the beginning of {several} UUIDs")),
    }
}

/// Whether these numbers mean other cards in another order.
fn is_ambiguous(numbers: &[u32], survey: &Survey) -> bool {
    let mut models: Vec<&str> = survey.cards.iter().map(|card| card.gpu.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    let all = survey.cards.len() + survey.silent.len();
    models.len() > 1 && numbers.len() < all
}

#[cfg(test)]
mod tests {
    use super::super::nvml::Part;
    use super::*;

    fn gpu(uuid: &str, model: &str) -> Gpu {
        Gpu { uuid: uuid.to_owned(), memory: 80 << 30, model: model.to_owned() }
    }

    fn card(index: u32, uuid: &str) -> Card {
        Card { index, gpu: gpu(uuid, "H100"), parts: None }
    }

    fn four() -> Survey {
        let names = ["GPU-a1", "GPU-a2", "GPU-b1", "GPU-c1"];
        let cards = (0..).zip(names).map(|(index, uuid)| card(index, uuid)).collect();
        Survey { cards, ..Survey::default() }
    }

    fn names(text: Option<&str>, order: Option<&str>, survey: &Survey) -> (String, String) {
        let (gpus, remark) = Visible::new(text, order).choose(survey);
        let names: Vec<&str> = gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
        (names.join(" "), remark.unwrap_or_default())
    }

    #[test]
    fn a_list_is_read_as_cuda_reads_it() {
        for (text, expected, says) in [
            ("", "", "hides every GPU"),
            ("2,0", "GPU-b1 GPU-a1", ""),
            (" 1, 3", "GPU-a2 GPU-c1", ""),
            ("1gpu2,2ampere", "GPU-a2 GPU-b1", ""),
            ("0,2,-1,1", "GPU-a1 GPU-b1", "CUDA stops before `-1`"),
            ("-1", "", "CUDA stops before `-1`"),
            ("0,7,1", "GPU-a1", "numbered from 0 to 3"),
            ("0,1,0", "", "comes twice"),
            ("0,GPU-b1", "GPU-a1", "before `GPU-b1`"),
            ("none", "", "is not the number"),
            ("NoDevFiles", "", "is not the number"),
            ("99999999999999999999", "", "is not the number"),
            ("GPU-b1", "GPU-b1", ""),
            ("GPU-b,GPU-a2", "GPU-b1 GPU-a2", ""),
            ("GPU-c1,GPU-a,GPU-b1", "GPU-c1", "`GPU-a`, which is the beginning of 2 UUIDs"),
            ("GPU-c1,GPU-x,GPU-b1", "GPU-c1", "no GPU here is called"),
            ("GPU-b1,GPU-b", "", "comes twice"),
            ("GPU-b1, GPU-c1", "GPU-b1", "does not begin with GPU-"),
            ("GPU-b1,2", "GPU-b1", "does not begin with GPU-"),
            ("GPU-", "", "is the beginning of 4 UUIDs"),
        ] {
            let (there, remark) = names(Some(text), None, &four());
            assert_eq!(there, expected, "`{text}`: {remark}");
            assert!(remark.contains(says) && remark.is_empty() == says.is_empty(), "{remark}");
        }
        assert_eq!(names(None, None, &four()).0, "GPU-a1 GPU-a2 GPU-b1 GPU-c1");
    }

    #[test]
    fn numbers_of_different_models_are_taken_only_where_their_order_does_not_matter() {
        let mut survey = four();
        survey.cards[0].gpu.model = "A100".to_owned();
        let (there, remark) = names(Some("0"), None, &survey);
        assert!(there.is_empty() && remark.contains("CUDA_DEVICE_ORDER=PCI_BUS_ID"), "{remark}");
        assert!(names(Some("0"), Some("FASTEST_FIRST"), &survey).0.is_empty());
        assert_eq!(names(Some("0"), Some("PCI_BUS_ID"), &survey).0, "GPU-a1");
        assert_eq!(names(Some("3,2,1,0"), None, &survey).0, "GPU-c1 GPU-b1 GPU-a2 GPU-a1");
        assert_eq!(names(Some("GPU-a1"), None, &survey).0, "GPU-a1");
    }

    #[test]
    fn in_mig_mode_its_devices_take_the_place_of_the_card() {
        let part = |uuid: &str, instance: u32| Part {
            gpu: gpu(uuid, "H100 MIG 3g.40gb"),
            old_name: Some(format!("MIG-GPU-b1/{instance}/0")),
        };
        let mut survey = four();
        survey.cards[2].parts = Some(vec![part("MIG-11", 1), part("MIG-12", 2)]);
        survey.cards[3].parts = Some(vec![]);
        assert_eq!(names(None, None, &survey).0, "GPU-a1 GPU-a2 MIG-11 MIG-12");
        for (text, expected) in [
            ("MIG-12", "MIG-12"),
            ("MIG-12,MIG-11", "MIG-12 MIG-11"),
            ("MIG-GPU-b1/2/0", "MIG-12"),
            ("MIG-GPU-b1/2/0,MIG-12", ""),
            ("MIG-1", ""),
            ("2", "MIG-11"),
            ("GPU-b1", "MIG-11"),
            ("GPU-c1", ""),
            ("MIG-GPU-b1/9/0", ""),
        ] {
            assert_eq!(names(Some(text), None, &survey).0, expected, "{text}");
        }
    }

    #[test]
    fn a_number_keeps_its_card_when_another_is_lost() {
        let mut visible = Visible::new(Some("1,2"), None);
        let uuids = |visible: &mut Visible, survey: &Survey| -> Vec<String> {
            visible.choose(survey).0.into_iter().map(|gpu| gpu.uuid).collect()
        };
        // A card that does not answer yet is waited for.
        let mut survey = four();
        survey.cards.remove(1);
        survey.silent.push((1, "lost".to_owned()));
        assert_eq!(uuids(&mut visible, &survey), ["GPU-b1"]);
        assert_eq!(uuids(&mut visible, &four()), ["GPU-a2", "GPU-b1"]);
        // The driver counts three from now on.
        let mut survey = four();
        survey.cards.remove(0);
        for (index, card) in (0..).zip(&mut survey.cards) {
            card.index = index;
        }
        assert_eq!(uuids(&mut visible, &survey), ["GPU-a2", "GPU-b1"]);
    }
}
