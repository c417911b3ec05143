//! What libjpeg says of a file: warnings, which it goes on after, and errors, which it does not.

use std::ffi::c_int;

use mozjpeg_sys as sys;

/// Something that libjpeg noticed and passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What it means for the pixels.
    pub kind: Kind,
    /// libjpeg's words.
    pub text: String,
}

/// What a warning means for the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In the header: unknown versions, stray bytes between segments. The pixels are whole.
    Header,
    /// Stray bytes behind pixels, or fewer progressive scans than full precision takes. The pixels are
    /// those that the file holds.
    Remark,
    /// No end mark, and nothing is missing before it.
    NoEnd,
    /// Pixels are missing or wrong; libjpeg filled the gap.
    Damage,
}

/// Warnings of one decompressor; C holds its address.
#[derive(Default)]
pub(crate) struct Complaints {
    /// The first of each code, with whether the header was being read.
    first: Vec<(c_int, bool, String)>,
    /// True once the header was read.
    pub(crate) past_header: bool,
}

impl Complaints {
    /// Notes a warning where it is the first of its code; `text` is only asked for then.
    pub(crate) fn note(&mut self, code: c_int, text: impl FnOnce() -> String) {
        let in_header = !self.past_header;
        if !self.first.iter().any(|(known, header, _)| (*known, *header) == (code, in_header)) {
            self.first.push((code, in_header, text()));
        }
    }

    /// The words of the first warning that the file ended early, if it did.
    pub(crate) fn end(&self) -> Option<&str> {
        let ended = |(code, ..): &&(c_int, bool, String)| *code == sys::JWRN_JPEG_EOF;
        self.first.iter().find(ended).map(|(.., text)| text.as_str())
    }

    /// All of them. `complete` says that every coefficient has come, as far as libjpeg can know.
    pub(crate) fn warnings(&self, complete: bool) -> Vec<Warning> {
        let kind = |code: c_int, in_header: bool| match code {
            // Header fields that decide nothing: some baseline files have zeros for Ss and Se.
            sys::JWRN_ADOBE_XFORM | sys::JWRN_JFIF_MAJOR | sys::JWRN_NOT_SEQUENTIAL => Kind::Header,
            sys::JWRN_EXTRANEOUS_DATA if in_header => Kind::Header,
            sys::JWRN_EXTRANEOUS_DATA => Kind::Remark,
            sys::JWRN_JPEG_EOF if complete => Kind::NoEnd,
            _ => Kind::Damage,
        };
        let mut warnings: Vec<_> = self
            .first
            .iter()
            .map(|(code, in_header, text)| Warning {
                kind: kind(*code, *in_header),
                text: text.clone(),
            })
            .collect();
        if warnings.iter().any(|warning| warning.kind == Kind::Damage) {
            // Where something is missing, the end of the file is the reason, not a detail.
            for warning in &mut warnings {
                if warning.kind == Kind::NoEnd {
                    warning.kind = Kind::Damage;
                }
            }
        }
        warnings
    }
}

/// True for errors that say that libjpeg lacks something, not that the file is damaged.
pub(crate) fn is_unsupported(code: c_int) -> bool {
    matches!(
        code,
        sys::JERR_ARITH_NOTIMPL
            | sys::JERR_BAD_PRECISION
            | sys::JERR_CCIR601_NOTIMPL
            | sys::JERR_COMPONENT_COUNT
            | sys::JERR_CONVERSION_NOTIMPL
            | sys::JERR_EMPTY_IMAGE
            | sys::JERR_FRACT_SAMPLE_NOTIMPL
            | sys::JERR_NOTIMPL
            | sys::JERR_NOT_COMPILED
            | sys::JERR_OUT_OF_MEMORY
            | sys::JERR_SOF_UNSUPPORTED
    )
}
