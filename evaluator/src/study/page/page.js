// The rating page. What it shows comes from the server trial by trial: nothing here knows which
// picture is which, and nothing is kept in the browser, so that a reload goes on where the server is.
'use strict';

// The rater's own address; everything they ask for lies below it.
const HERE = location.pathname;
// Milliseconds that the cross is shown before a pair.
const CROSS = 700;
// CSS pixels: between the pictures at most, and a side that small pictures are enlarged to.
const GAP = 24;
const LEAST_SIDE = 256;

const element = (id) => document.getElementById(id);
const pair = element('pair');
const pictures = [element('left-picture'), element('right-picture')];
const sides = { left: element('left'), right: element('right') };

// Who goes for lunch has answered after an hour: the server takes no longer times.
const inRange = (ms) => Math.min(Math.max(0, ms), 3_600_000);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function section(name) {
  for (const main of document.querySelectorAll('main')) main.hidden = main.id !== name;
}

function only(...shown) {
  for (const id of ['pair', 'cross', 'choice', 'question']) {
    element(id).classList.toggle('shown', shown.includes(id));
  }
}

// What the server refuses for good; anything else is tried again until it is done.
class Refused extends Error {}

async function patiently(once) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const done = await once();
      element('notice').hidden = true;
      return done;
    } catch (error) {
      if (error instanceof Refused) throw error;
      element('notice').textContent = 'The connection is lost. Trying again …';
      element('notice').hidden = false;
      await pause(wait);
    }
  }
}

// Asks the server, with a body as a POST.
const call = (path, body) => patiently(async () => {
  const post = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
  const response = await fetch(HERE + path, { cache: 'no-store', ...(body === undefined ? {} : post) });
  if (response.status >= 500) throw new Error(response.status);
  if (!response.ok) throw new Refused(response.status);
  return response.status === 204 ? null : response.json();
});

// Has both pictures of a trial decoded, out of sight. A refused one looks like a lost one to an <img>:
// the server is asked again whether the trial is still the next.
async function load(trial) {
  let attempt = 0;
  await patiently(async () => {
    attempt += 1;
    ['left', 'right'].forEach((side, place) => {
      pictures[place].src = `${HERE}/picture/${trial}/${side}?${attempt}`;
    });
    try {
      await Promise.all(pictures.map((picture) => picture.decode()));
    } catch (error) {
      const standing = await call('/standing');
      if (standing.trial !== trial) throw new Refused('not the next');
      throw error;
    }
  });
  fit();
}

// Both pictures at one scale: enlarged where they are small, shrunk where the window is.
function fit() {
  const { naturalWidth: width, naturalHeight: height } = pictures[0];
  if (!width) return;
  const stage = element('stage').getBoundingClientRect();
  const gap = Math.min(GAP, stage.width / 30);
  const room = Math.min((stage.width - 3 * gap) / (2 * width), (stage.height - 2 * gap) / height);
  const scale = Math.min(room, Math.max(1, LEAST_SIDE / Math.min(width, height)));
  element('stage').style.setProperty('--gap', `${gap}px`);
  for (const box of [...pictures, ...Object.values(sides)]) {
    box.style.width = `${Math.floor(width * scale)}px`;
    box.style.height = `${Math.floor(height * scale)}px`;
  }
}

const visible = () => new Promise((done) => {
  const look = () => {
    if (document.hidden) return;
    document.removeEventListener('visibilitychange', look);
    done();
  };
  document.addEventListener('visibilitychange', look);
  look();
});

// Shows the pair for `ms`, from one frame to another: of the frames that may end it, the one that comes
// nearest. A page that is hidden meanwhile ends it at once.
function expose(ms) {
  return new Promise((done) => {
    let began = null, last = null, over = false;
    const end = (now, interrupted) => {
      over = true;
      only('choice', 'question');
      document.removeEventListener('visibilitychange', hide);
      done({ shown: now - (began ?? now), ended: now, interrupted });
    };
    const hide = () => { if (document.hidden && !over) end(performance.now(), true); };
    const frame = (now) => {
      if (over) return;
      if (began === null) {
        began = now;
        only('pair');
      } else if (now - began >= ms - Math.min(now - last, 20) / 2) {
        return end(now, false);
      }
      last = now;
      requestAnimationFrame(frame);
    };
    document.addEventListener('visibilitychange', hide);
    requestAnimationFrame(frame);
  });
}

// The side that is chosen, when, and with what.
function choose() {
  const keys = { ArrowLeft: 'left', 1: 'left', ArrowRight: 'right', 2: 'right' };
  return new Promise((done) => {
    let pointer = 'mouse';
    const listening = new AbortController();
    const listen = (target, kind, heard) => target.addEventListener(kind, heard, { signal: listening.signal });
    const finish = (side, input, event) => {
      listening.abort();
      only();
      done({ side, input, at: event.timeStamp });
    };
    listen(document, 'keydown', (event) => {
      const side = keys[event.key];
      if (!side || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      finish(side, 'key', event);
    });
    listen(document, 'pointerdown', (event) => {
      pointer = event.pointerType === 'mouse' ? 'mouse' : 'touch';
    });
    for (const [side, button] of Object.entries(sides)) {
      // A button that is pressed by the keyboard is clicked without a pointer.
      listen(button, 'click', (event) => finish(side, event.detail === 0 ? 'key' : pointer, event));
    }
  });
}

async function rate({ trial, trials, seconds }) {
  element('progress').textContent = `${trial} of ${trials}`;
  only('cross');
  await load(trial);
  await visible();
  await call(`/shown/${trial}`, {});
  await pause(CROSS);
  await Promise.all(pictures.map((picture) => picture.decode()));
  const { shown, ended, interrupted } = await expose(1000 * seconds);
  const { side, input, at } = await choose();
  for (const picture of pictures) picture.removeAttribute('src');
  return call(`/answer/${trial}`, {
    chosen: side,
    shown_ms: inRange(shown),
    response_ms: inRange(at - ended),
    interrupted,
    input,
  });
}

async function run(standing) {
  section('trial');
  document.activeElement?.blur();
  while (standing.trial !== null) {
    try {
      standing = await rate(standing);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      // Answered in another window, perhaps: the server knows what is next.
      await pause(1000);
      standing = await call('/standing');
    }
  }
  section('thanks');
}

async function main() {
  const standing = await call('/standing');
  if (standing.trial === null) return section('thanks');
  element('count').textContent = standing.trials;
  element('seconds').textContent = standing.seconds === 1 ? '1 second' : `${standing.seconds} seconds`;
  if (standing.started) {
    element('start').textContent = `Go on with pair ${standing.trial} of ${standing.trials}`;
  }
  element('start').addEventListener('click', async () => run(await call('/start', {})), { once: true });
  section('welcome');
  element('start').focus();
}

addEventListener('resize', fit);
main();
