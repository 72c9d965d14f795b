// The progress of a what-if while its page is open; the answer itself comes from the server.

const EVERY_MS = 1000;
const box = document.getElementById("what-if-progress");
const bar = box.querySelector("progress");
const word = box.querySelector(".waits-word");

function left(told) {
  if (told.permille < 20 || told.seconds < 3) return "";
  const seconds = Math.round((told.seconds * (1000 - told.permille)) / told.permille);
  return seconds < 90 ? `, about ${seconds} s to go` : `, about ${Math.round(seconds / 60)} min to go`;
}

function tell(told) {
  if (told.state === "WAITING") {
    const before = told.before ? `, ${told.before} before it` : "";
    word.textContent = `Waiting for its turn${before} …`;
    bar.removeAttribute("value");
    return;
  }
  if (!told.frames) {
    word.textContent = "Starting …";
    return;
  }
  bar.value = told.permille;
  const percent = (told.permille / 10).toFixed(0);
  word.textContent = `${percent} %: ${told.frames.toLocaleString("en")} frames read in ${told.seconds} s${left(told)}`;
}

async function look() {
  try {
    const answer = await fetch(box.dataset.url, { credentials: "same-origin", headers: { Accept: "application/json" } });
    if (answer.redirected) return location.reload(); // the login page takes over
    if (!answer.ok) throw new Error(String(answer.status));
    const told = await answer.json();
    if (told.over) return location.reload();
    tell(told);
  } catch {
    word.textContent = "The desk does not answer; trying again …";
  }
  setTimeout(look, EVERY_MS);
}

look();
