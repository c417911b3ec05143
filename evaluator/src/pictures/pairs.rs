//! Which output belongs to which reference. Outputs and references are matched by key; what has no
//! partner on the other side is told, never passed over.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use contracts::evaluation::ImageColumn;
use image::RgbImage;
use outputs::{OutputDataset, OutputRow, Variant};
use pipeline::names::{Endings, Found, Names, file_name};
use pipeline::{Dataset, ImageSize};
use terminal::Usage;

use super::folder::Folder;
use super::set::{Encoded, Set};

/// One output with what it is compared with.
pub struct Pair {
    /// Key of the input.
    pub key: String,
    /// Number of the output among those of the input.
    pub sample: u32,
    /// The task with its degradation, where that is known.
    pub variant: Option<Variant>,
    /// Class of the input, where that is known.
    pub label: Option<i64>,
    /// The output.
    pub output: Encoded,
    /// The photograph.
    pub reference: Option<Encoded>,
    /// The first output of the same input, of all outputs but the first.
    pub first: Option<Encoded>,
    /// What was given, and where it was to be filled in (white).
    pub given: Option<(Encoded, Encoded)>,
}

/// The pictures of a pair at one size.
pub struct Decoded {
    pub output: RgbImage,
    pub reference: Option<RgbImage>,
    pub first: Option<RgbImage>,
    pub given: Option<(RgbImage, RgbImage)>,
}

/// Sizes at which pairs are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// The output's own; a photograph is brought to it.
    Own,
    /// Both are brought to a square of this side.
    Square(u32),
}

impl Pair {
    /// Decodes the pictures.
    ///
    /// # Errors
    /// For damaged pictures, and for pictures of different sizes.
    pub fn decode(&self, sizes: Sizes) -> Result<Decoded> {
        let asked = match sizes {
            Sizes::Own => None,
            Sizes::Square(side) => Some(ImageSize::square(side)),
        };
        let decode = |of: &Encoded, size, what: &str| {
            of.decode(size).with_context(|| format!("{what} of {}", self.key))
        };
        let output = decode(&self.output, asked, "the output")?;
        let (width, height) = output.dimensions();
        let size = |of: &Encoded| match of {
            Encoded::Photograph(_) => Some(ImageSize { width, height }),
            Encoded::Picture(_) | Encoded::File(..) => asked,
        };
        let like = |of: &Encoded, what: &str| -> Result<RgbImage> {
            let picture = decode(of, size(of), what)?;
            if picture.dimensions() != (width, height) {
                bail!(Usage::new(format!(
                    "{}: the output has {width}x{height} pixels, {what} {}x{}: say --size to bring both \
                     to one",
                    self.key,
                    picture.width(),
                    picture.height()
                )));
            }
            Ok(picture)
        };
        let reference =
            self.reference.as_ref().map(|one| like(one, "the reference")).transpose()?;
        let first = self.first.as_ref().map(|one| like(one, "the first output")).transpose()?;
        let given = match (&self.given, sizes) {
            (Some((source, mask)), Sizes::Own) => {
                Some((like(source, "the input")?, like(mask, "the mask")?))
            }
            _ => None,
        };
        Ok(Decoded { output, reference, first, given })
    }
}

/// All pairs of an evaluation, in their order.
pub struct Pairs {
    outputs: Set,
    reference: Option<Reference>,
    /// Labels of the inputs by key, where the references do not have them.
    labels: HashMap<String, i64>,
    /// Of folders and photographs: which go with which row of the reference.
    matched: Vec<(usize, Option<usize>)>,
    /// Outputs and inputs by task, as `jpeg:5`.
    counts: BTreeMap<String, Counts>,
    /// References without an output.
    pub missing: Vec<String>,
    /// Outputs without a reference.
    pub surplus: Vec<String>,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Outputs.
    pub outputs: u64,
    /// Inputs: first outputs.
    pub inputs: u64,
}

/// References that are read by key.
struct Reference {
    set: Set,
    names: Names<usize>,
    entries: Vec<(String, Option<i64>)>,
}

/// The first output of an input.
struct First {
    key: String,
    variant: Variant,
    output: Encoded,
}

/// What outputs are called that have no task.
pub const NO_TASK: &str = "pictures";

impl Pairs {
    /// Brings outputs and references together. Without references an output dataset has its own, and
    /// other sets have none.
    ///
    /// # Errors
    /// For sets that cannot be matched or have nothing in common; where names are not unique.
    pub fn open(outputs: Set, reference: Option<Set>) -> Result<Self> {
        let reference = reference.map(Reference::open).transpose()?;
        let mut pairs = Self {
            labels: HashMap::new(),
            matched: Vec::new(),
            counts: BTreeMap::new(),
            missing: Vec::new(),
            surplus: Vec::new(),
            outputs,
            reference,
        };
        pairs.match_up()?;
        if pairs.counts.values().all(|counts| counts.outputs == 0) {
            bail!(Usage::new(format!(
                "{} and its reference have no name in common; the first output is `{}`, the first \
                 reference `{}`",
                pairs.outputs,
                pairs.surplus.first().map_or("", String::as_str),
                pairs.missing.first().map_or("", String::as_str)
            )));
        }
        Ok(pairs)
    }

    fn match_up(&mut self) -> Result<()> {
        let names = match &self.outputs {
            Set::Outputs(outputs, _) => return self.match_outputs(&outputs.names()?),
            Set::Folder(folder) => folder.names().map(str::to_owned).collect::<Vec<_>>(),
            Set::Photographs(dataset) => {
                let labels = dataset.labels()?;
                let known = labels.iter().filter_map(|(key, label)| Some((key.clone(), (*label)?)));
                self.labels = known.collect();
                labels.into_iter().map(|(key, _)| key).collect()
            }
        };
        let Some(reference) = &self.reference else {
            self.matched = (0..names.len()).map(|number| (number, None)).collect();
            self.count(NO_TASK, names.len() as u64);
            return Ok(());
        };
        let mut partners: HashMap<usize, usize> = HashMap::new();
        for (number, name) in names.iter().enumerate() {
            match reference.find(name)? {
                None => self.surplus.push(name.clone()),
                Some(row) => {
                    if let Some(other) = partners.insert(row, number) {
                        bail!(Usage::new(format!(
                            "{}: both `{}` and `{name}` are named as the reference `{}`",
                            self.outputs, names[other], reference.entries[row].0
                        )));
                    }
                }
            }
        }
        // In the order of the references, which is the same for every system.
        for (row, (key, _)) in reference.entries.iter().enumerate() {
            match partners.get(&row) {
                Some(&number) => self.matched.push((number, Some(row))),
                None => self.missing.push(key.clone()),
            }
        }
        self.count(NO_TASK, self.matched.len() as u64);
        Ok(())
    }

    fn match_outputs(&mut self, names: &[outputs::OutputName]) -> Result<()> {
        if let (None, Set::Outputs(outputs, _)) = (&self.reference, &self.outputs)
            && let Some(dataset) = Set::near_photographs_of(outputs)?
            && let Ok(dataset) = Dataset::open(&dataset)
        {
            let labels = dataset.labels()?.into_iter();
            self.labels = labels.filter_map(|(key, label)| Some((key, label?))).collect();
        }
        let entries = self.reference.as_ref().map_or(0, |one| one.entries.len());
        let mut seen: Vec<Option<&str>> = vec![None; entries];
        for name in names {
            if let Some(reference) = &self.reference {
                match reference.find(&name.key)? {
                    Some(row) => match seen[row].replace(&name.key) {
                        Some(other) if other != name.key => bail!(Usage::new(format!(
                            "{}: both `{other}` and `{}` are named as the reference `{}`",
                            self.outputs, name.key, reference.entries[row].0
                        ))),
                        _ => {}
                    },
                    None => {
                        if name.sample == 0 {
                            self.surplus.push(name.key.clone());
                        }
                        continue;
                    }
                }
            }
            let counts = self.counts.entry(name.task.to_string()).or_default();
            counts.outputs += 1;
            counts.inputs += u64::from(name.sample == 0);
        }
        if let Some(reference) = &self.reference {
            let missing = reference.entries.iter().zip(seen).filter(|(_, seen)| seen.is_none());
            self.missing = missing.map(|((key, _), _)| key.clone()).collect();
        }
        Ok(())
    }

    fn count(&mut self, task: &str, count: u64) {
        self.counts.insert(task.to_owned(), Counts { outputs: count, inputs: count });
    }

    /// Whether each output has something to be compared with.
    pub fn has_references(&self) -> bool {
        self.reference.is_some() || matches!(self.outputs, Set::Outputs(..))
    }

    /// Outputs and inputs by task.
    pub fn counts(&self) -> &BTreeMap<String, Counts> {
        &self.counts
    }

    /// The outputs.
    pub fn outputs(&self) -> &Set {
        &self.outputs
    }

    /// Hands every pair out, in order, until the visitor breaks.
    pub fn each(&self, visit: &mut dyn FnMut(Result<Pair>) -> ControlFlow<()>) {
        match &self.outputs {
            Set::Outputs(outputs, column) => self.each_output(outputs, *column, visit),
            _ => {
                for &(number, row) in &self.matched {
                    if visit(self.named(number, row)).is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// An output of a folder or a photograph.
    fn named(&self, number: usize, row: Option<usize>) -> Result<Pair> {
        let (own, output) = match &self.outputs {
            Set::Folder(folder) => (folder.name(number), read_file(folder, number)?),
            Set::Photographs(dataset) => ("", read_photograph(dataset, number)?),
            Set::Outputs(..) => bail!("outputs of a job are not read by number"),
        };
        let (key, label, reference) = match (&self.reference, row) {
            (Some(reference), Some(row)) => {
                let (key, label) = &reference.entries[row];
                (key.clone(), *label, Some(reference.read(row)?))
            }
            _ => {
                let key = match &self.outputs {
                    Set::Photographs(dataset) => dataset.key(number as u64)?,
                    _ => own.to_owned(),
                };
                let label = self.labels.get(&key).copied();
                (key, label, None)
            }
        };
        Ok(Pair {
            key,
            sample: 0,
            variant: None,
            label,
            output,
            reference,
            first: None,
            given: None,
        })
    }

    fn each_output(
        &self,
        outputs: &OutputDataset,
        column: ImageColumn,
        visit: &mut dyn FnMut(Result<Pair>) -> ControlFlow<()>,
    ) {
        // Outputs of one input follow each other, the first one first.
        let mut first: Option<First> = None;
        for row in outputs.rows() {
            let pair = row
                .map_err(anyhow::Error::from)
                .and_then(|row| self.output(row, column, &mut first));
            if let Some(pair) = pair.transpose()
                && visit(pair).is_break()
            {
                return;
            }
        }
    }

    /// A row of an output dataset; none where it has no partner.
    fn output(
        &self,
        row: OutputRow,
        column: ImageColumn,
        first: &mut Option<First>,
    ) -> Result<Option<Pair>> {
        let picture = |bytes: Vec<u8>| Encoded::Picture(Bytes::from(bytes));
        let own = picture(row.reference);
        let (label, reference) = match &self.reference {
            None => (self.labels.get(&row.key).copied(), own.clone()),
            Some(reference) => match reference.find(&row.key)? {
                None => return Ok(None),
                Some(number) => (reference.entries[number].1, reference.read(number)?),
            },
        };
        let given = (picture(row.source), picture(row.mask));
        let output = match column {
            ImageColumn::Output => picture(row.output),
            ImageColumn::Reference => own,
            ImageColumn::Source => given.0.clone(),
        };
        let before = match first {
            Some(First { key, variant, output })
                if row.sample > 0 && (&*key, *variant) == (&row.key, row.task) =>
            {
                Some(output.clone())
            }
            _ => {
                let (key, output) = (row.key.clone(), output.clone());
                *first = Some(First { key, variant: row.task, output });
                None
            }
        };
        Ok(Some(Pair {
            key: row.key,
            sample: row.sample,
            variant: Some(row.task),
            label,
            output,
            reference: Some(reference),
            first: before,
            given: Some(given),
        }))
    }
}

impl Reference {
    fn open(set: Set) -> Result<Self> {
        let entries: Vec<(String, Option<i64>)> = match &set {
            Set::Photographs(dataset) => dataset.labels()?,
            Set::Folder(folder) => folder.names().map(|name| (name.to_owned(), None)).collect(),
            Set::Outputs(outputs, _) => bail!(Usage::new(format!(
                "{} is an output dataset: as --reference take a folder or photographs{}",
                outputs.place(),
                Set::photographs_of(outputs)?
                    .map(|from| format!(", such as {from}"))
                    .unwrap_or_default()
            ))),
        };
        // By its key, and as the sampler names the PNG file of an output.
        let names = entries.iter().enumerate().flat_map(|(row, (key, _))| {
            let file = Some(file_name(key)).filter(|file| file != key);
            std::iter::once(key.clone()).chain(file).map(move |name| (name, row))
        });
        Ok(Self { names: Names::new(names), entries, set })
    }

    fn find(&self, name: &str) -> Result<Option<usize>> {
        match self.names.find(name, Endings::Any) {
            Found::One(&row) => Ok(Some(row)),
            Found::None => Ok(None),
            Found::Several([one, other]) => bail!(Usage::new(format!(
                "several references in {} fit the name `{name}`, such as `{one}` and `{other}`: name it by \
                 its key",
                self.set
            ))),
        }
    }

    fn read(&self, row: usize) -> Result<Encoded> {
        match &self.set {
            Set::Photographs(dataset) => read_photograph(dataset, row),
            Set::Folder(folder) => read_file(folder, row),
            Set::Outputs(..) => bail!("outputs of a job are no references"),
        }
    }
}

fn read_file(folder: &Folder, number: usize) -> Result<Encoded> {
    Ok(Encoded::File(folder.read(number)?, folder.path(number)?.to_owned()))
}

fn read_photograph(dataset: &Dataset, number: usize) -> Result<Encoded> {
    Ok(Encoded::Photograph(dataset.photograph(number as u64)?.1))
}
