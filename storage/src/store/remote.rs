//! A prefix in an object store, by calls that any thread may wait for ([`calls`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{
    ClientConfigKey, GetOptions, GetRange, ListResult, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
    WriteMultipart, coalesce_ranges,
};

use super::environment;
use crate::calls::{self, first_line, wait};
use crate::{Error, Place, Result, Scheme};

/// The object by which a writer claims a place.
const CLAIM: &str = ".ingest.claim";
/// A claim that was not renewed for this long belongs to a process that is gone.
const CLAIM_ENDS: Duration = Duration::from_secs(60);
const RENEW_EVERY: Duration = Duration::from_secs(15);
/// Bytes of a part of an upload, and parts under way at once.
const PART: usize = 8 << 20;
const PARTS: usize = 4;

/// Requests for parts of files of object stores, and their bytes, of the whole process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests; those that are tried again within the client count once.
    pub requests: u64,
    /// Bytes of the answers.
    pub bytes: u64,
}

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// What was read of object stores so far.
pub fn traffic() -> Traffic {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Traffic { requests: count(&REQUESTS), bytes: count(&BYTES) }
}

/// Reads a part of an object by one request.
async fn part(
    store: &dyn ObjectStore,
    key: &Key,
    range: Range<u64>,
) -> object_store::Result<Bytes> {
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
    let bytes = store.get_opts(key, options).await?.bytes().await?;
    BYTES.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(bytes)
}

#[derive(Clone)]
pub(crate) struct Remote {
    place: Place,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
}

/// A client of a place's store, whose calls are tried again so often where it does not answer.
fn connect(
    place: &Place,
    retries: usize,
    settings: &[(ClientConfigKey, &str)],
) -> Result<Arc<dyn ObjectStore>> {
    let wrong = |message: String| Error::Refused { place: place.to_string(), message };
    let Some((scheme, bucket, _)) = place.remote() else {
        return Err(wrong("is on this machine, in no object store".to_owned()));
    };
    environment::check(scheme, std::env::vars_os()).map_err(wrong)?;
    calls::ready();
    let retry = RetryConfig {
        max_retries: retries,
        retry_timeout: Duration::from_secs(60),
        ..RetryConfig::default()
    };
    let unusable =
        |error: object_store::Error| wrong(format!("not usable: {}", first_line(&error)));
    Ok(match scheme {
        Scheme::S3 => {
            let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
            let set = |builder: AmazonS3Builder, (key, value): &(ClientConfigKey, &str)| {
                builder.with_config(AmazonS3ConfigKey::Client(*key), *value)
            };
            Arc::new(settings.iter().fold(builder, set).build().map_err(unusable)?)
        }
        Scheme::Gs => {
            let builder = GoogleCloudStorageBuilder::from_env();
            let builder = builder.with_bucket_name(bucket).with_retry(retry);
            let set = |builder: GoogleCloudStorageBuilder,
                       (key, value): &(ClientConfigKey, &str)| {
                builder.with_config(GoogleConfigKey::Client(*key), *value)
            };
            Arc::new(settings.iter().fold(builder, set).build().map_err(unusable)?)
        }
    })
}

impl Remote {
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let store = connect(place, 6, &[])?;
        let prefix = place.remote().map_or("", |(_, _, prefix)| prefix);
        let prefix = Key::parse(prefix).map_err(|error| Error::Refused {
            place: place.to_string(),
            message: format!("no usable prefix: {error}"),
        })?;
        Ok(Self { place: place.clone(), store, prefix })
    }

    /// A client for bodies that are read as they come, for hours; whoever reads tries again.
    pub(crate) fn streaming(&self) -> Result<Arc<dyn ObjectStore>> {
        connect(&self.place, 0, &[(ClientConfigKey::Timeout, "10000 days")])
    }

    /// The object whose key is that of the place, if there is one.
    pub(crate) fn itself(&self) -> Result<Option<ObjectMeta>> {
        self.head("")
    }

    /// The key of the place.
    pub(crate) fn prefix(&self) -> &Key {
        &self.prefix
    }

    /// Objects and prefixes directly below a prefix of the bucket.
    pub(crate) fn below(&self, prefix: &Key) -> Result<ListResult> {
        let prefix = prefix.clone();
        let listed = self.call("list", "", |store, _| async move {
            store.list_with_delimiter(Some(&prefix)).await
        })?;
        self.must("list", "", listed)
    }

    fn key(&self, file: &str) -> Key {
        file.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |key, part| key.join(part))
    }

    /// Runs a call on the object of a file; none where there is no such object.
    fn call<T, F>(
        &self,
        doing: &'static str,
        file: &str,
        call: impl FnOnce(Arc<dyn ObjectStore>, Key) -> F,
    ) -> Result<Option<T>>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let named = match file {
            "" => self.place.to_string(),
            file => format!("{}/{file}", self.place),
        };
        let failed = |message: String| Error::Store { doing, place: named.clone(), message };
        match wait(call(Arc::clone(&self.store), self.key(file))) {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(
                error @ (object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }),
            )) => {
                let message = format!("not allowed to {doing} {named}: {}", first_line(&error));
                Err(Error::Refused { place: self.place.to_string(), message })
            }
            Ok(Err(error)) => Err(failed(first_line(&error))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    fn must<T>(&self, doing: &'static str, file: &str, found: Option<T>) -> Result<T> {
        found.ok_or_else(|| Error::Store {
            doing,
            place: format!("{}/{file}", self.place),
            message: "there is no such object".into(),
        })
    }

    pub(super) fn read(&self, file: &str, most: u64) -> Result<Option<Bytes>> {
        match self.size(file)? {
            None => Ok(None),
            Some(size) if size > most => {
                let message = format!("{file} has {size} bytes, too long to be one");
                Err(Error::TooLong { place: self.place.to_string(), message })
            }
            Some(_) => {
                self.call("read", file, async |store, key| store.get(&key).await?.bytes().await)
            }
        }
    }

    fn head(&self, file: &str) -> Result<Option<ObjectMeta>> {
        self.call("look up", file, async |store, key| store.head(&key).await)
    }

    pub(super) fn size(&self, file: &str) -> Result<Option<u64>> {
        Ok(self.head(file)?.map(|meta| meta.size))
    }

    pub(super) fn written(&self, file: &str) -> Result<Option<SystemTime>> {
        Ok(self.head(file)?.map(|meta| meta.last_modified.into()))
    }

    pub(super) fn list(&self, folder: &str) -> Result<BTreeMap<String, u64>> {
        let listed = self
            .call("list", folder, async |store, key| store.list_with_delimiter(Some(&key)).await)?;
        let objects = listed.map(|listed| listed.objects).unwrap_or_default();
        let named = |meta: ObjectMeta| Some((meta.location.filename()?.to_owned(), meta.size));
        Ok(objects.into_iter().filter_map(named).collect())
    }

    pub(super) fn only_files(&self) -> Result<Option<Vec<String>>> {
        let listed =
            self.call("list", "", async |store, key| store.list_with_delimiter(Some(&key)).await)?;
        let Some(listed) = listed else { return Ok(Some(Vec::new())) };
        let names = listed.objects.iter().map(|meta| meta.location.filename().map(str::to_owned));
        Ok(if listed.common_prefixes.is_empty() { names.collect() } else { None })
    }

    pub(super) fn siblings(&self, with: &str) -> Result<Vec<Place>> {
        let parts: Vec<_> = self.prefix.parts().collect();
        let parent = Key::from_iter(parts[..parts.len() - 1].iter().cloned());
        let listed = self.call("list", "..", |store, _| async move {
            store.list_with_delimiter(Some(&parent)).await
        })?;
        let mut places = Vec::new();
        for prefix in listed.map(|listed| listed.common_prefixes).unwrap_or_default() {
            let place = self.place.beside(prefix.as_ref())?;
            let beside = Self { prefix, place, ..self.clone() };
            if beside.prefix != self.prefix && beside.size(with)?.is_some() {
                places.push(beside.place);
            }
        }
        Ok(places)
    }

    /// Several ranges of a file, near ones by one request, the requests side by side.
    pub(super) fn ranges(
        &self,
        file: &str,
        ranges: Vec<Range<u64>>,
    ) -> std::io::Result<Vec<Bytes>> {
        let found = self.call("read", file, async move |store, key| {
            let read = |range| part(store.as_ref(), &key, range);
            coalesce_ranges(&ranges, read, OBJECT_STORE_COALESCE_DEFAULT).await
        });
        self.found(file, found)
    }

    pub(super) fn range(&self, file: &str, range: Range<u64>) -> std::io::Result<Bytes> {
        let found = self
            .call("read", file, async move |store, key| part(store.as_ref(), &key, range).await);
        self.found(file, found)
    }

    /// What was read: a file that is not there is an error of its own kind, apart from a store that does
    /// not answer, whose error is kept as it is.
    fn found<T>(&self, file: &str, found: Result<Option<T>>) -> std::io::Result<T> {
        use std::io::{Error, ErrorKind};
        let missing = || {
            Error::new(
                ErrorKind::NotFound,
                format!("{}/{file}: there is no such object", self.place),
            )
        };
        found.map_err(Error::other)?.ok_or_else(missing)
    }

    pub(super) fn write(&self, file: &str, bytes: Vec<u8>) -> Result<()> {
        let put = self.call("write", file, async |store, key| {
            store.put(&key, PutPayload::from(bytes)).await
        })?;
        self.bucket(put).map(|_| ())
    }

    /// What was written, which only fails to be found where the bucket is not there.
    fn bucket<T>(&self, put: Option<T>) -> Result<T> {
        put.ok_or_else(|| Error::Refused {
            place: self.place.to_string(),
            message: "there is no such bucket; create it first".to_owned(),
        })
    }

    pub(super) fn create(&self, file: &str, bytes: Vec<u8>) -> Result<bool> {
        let put = self.call("write", file, async |store, key| {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match store.put_opts(&key, PutPayload::from(bytes), options).await {
                Ok(_) => Ok(true),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => Ok(false),
                Err(error) => Err(error),
            }
        })?;
        self.bucket(put)
    }

    /// Writes a copy of a file of this machine, a few parts at once and no more of it in memory.
    pub(super) fn copy(&self, from: &Path, file: &str) -> Result<()> {
        let mut source = File::open(from).map_err(Error::io("open", from))?;
        let put = self.call("write", file, async move |store, key| {
            let failed = |error: std::io::Error| object_store::Error::Generic {
                store: "local",
                source: Box::new(error),
            };
            let upload = store.put_multipart(&key).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
            let mut buffer = vec![0; 1 << 20];
            let error = loop {
                match source.read(&mut buffer) {
                    Ok(0) => return upload.finish().await.map(|_| ()),
                    Ok(count) => match upload.wait_for_capacity(PARTS).await {
                        Ok(()) => upload.write(&buffer[..count]),
                        Err(error) => break error,
                    },
                    Err(error) => break failed(error),
                }
            };
            // Parts that this cannot take back either are for the rules of the bucket.
            let _ = upload.abort().await;
            Err(error)
        })?;
        self.bucket(put)
    }

    pub(super) fn upload(&self, from: &Path, file: &str) -> Result<()> {
        self.copy(from, file)?;
        std::fs::remove_file(from).map_err(Error::io("remove", from))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let target = self.key(to);
        let renamed =
            self.call("rename", from, async move |store, key| store.rename(&key, &target).await)?;
        self.must("rename", from, renamed)
    }

    pub(super) fn remove(&self, file: &str) -> Result<()> {
        self.call("remove", file, async |store, key| store.delete(&key).await).map(|_| ())
    }

    /// Claims the place by an object that is renewed as long as the writer lives. Ages are told by
    /// the store's own clock. Two writers cannot both win: every write of the claim is conditional.
    pub(super) fn claim(&self) -> Result<Claim> {
        let taken = || Error::Taken { place: self.place.to_string() };
        let held = self.head(CLAIM)?;
        let mode = match &held {
            None => PutMode::Create,
            Some(held) => {
                let probe = ".ingest.clock";
                self.write(probe, Vec::new())?;
                let now = self.head(probe)?;
                self.remove(probe)?;
                let age = self.must("look up", probe, now)?.last_modified - held.last_modified;
                if age.to_std().unwrap_or_default() < CLAIM_ENDS {
                    return Err(taken());
                }
                PutMode::Update(UpdateVersion {
                    e_tag: held.e_tag.clone(),
                    version: held.version.clone(),
                })
            }
        };
        let Some(version) = self.put_claim(mode)? else { return Err(taken()) };
        let lost = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = mpsc::channel::<()>();
        let renewer = {
            let (remote, lost) = (self.clone(), Arc::clone(&lost));
            let mut version = version;
            std::thread::spawn(move || {
                while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(RENEW_EVERY) {
                    // A store that does not answer is asked again; a lost claim stays lost.
                    match remote.put_claim(PutMode::Update(version.clone())) {
                        Ok(Some(renewed)) => version = renewed,
                        Ok(None) => return lost.store(true, Ordering::Relaxed),
                        Err(_) => {}
                    }
                }
                let _ = remote.remove(CLAIM);
            })
        };
        Ok(Claim(Holds::Remote(Held { lost, stop: Some(stop), renewer: Some(renewer) })))
    }

    /// Writes the claim; none where another writer was faster.
    fn put_claim(&self, mode: PutMode) -> Result<Option<UpdateVersion>> {
        let put = self.call("claim", CLAIM, async move |store, key| {
            let options = PutOptions { mode, ..PutOptions::default() };
            let text = format!("claimed by process {}\n", std::process::id());
            match store.put_opts(&key, PutPayload::from(text), options).await {
                Ok(put) => Ok(Some(UpdateVersion { e_tag: put.e_tag, version: put.version })),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        self.bucket(put)
    }
}

/// The right to write to a place, until it is dropped or the process ends.
pub struct Claim(Holds);

enum Holds {
    /// A lock that the system holds for the process.
    #[expect(dead_code, reason = "held, never read")]
    Local(File),
    Remote(Held),
}

/// A claim in an object store; given back when it is dropped.
struct Held {
    lost: Arc<AtomicBool>,
    stop: Option<mpsc::Sender<()>>,
    renewer: Option<JoinHandle<()>>,
}

impl Claim {
    pub(super) fn local(lock: File) -> Self {
        Self(Holds::Local(lock))
    }

    /// True once another writer has taken over, because this one could not renew its claim.
    pub fn is_lost(&self) -> bool {
        match &self.0 {
            Holds::Local(_) => false,
            Holds::Remote(held) => held.lost.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(renewer) = self.renewer.take() {
            // A renewer that panicked has reported itself; the claim ends by its age.
            let _ = renewer.join();
        }
    }
}
