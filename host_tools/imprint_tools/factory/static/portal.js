// What a browser with JavaScript gets on top: the camera, a page that follows its unit, more rows.
"use strict";

const CAMERA_PAUSE_MS = 400, REFRESH_MS = 4000, SIDE_MAX = 1280;

// --- The camera: decoded here where the browser can, by the server where it cannot. ---

async function startCamera(box, button) {
  const video = box.querySelector("video"), word = document.getElementById("camera-word");
  button.hidden = true;
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia(
      {video: {facingMode: "environment", width: {ideal: SIDE_MAX}}, audio: false});
  } catch (error) {
    box.hidden = false;
    word.textContent = "The camera cannot be used (" + error.name + "). Take a picture instead.";
    return;
  }
  box.hidden = false;
  word.textContent = "Hold the label before the camera.";
  await video.play();
  const detector = await makeDetector();
  for (;;) {
    const found = await look(video, detector, box.dataset.csrf).catch(() => null);
    if (found && found.unit) {
      video.srcObject.getTracks().forEach(track => track.stop());
      location.assign("/units/" + encodeURIComponent(found.unit));
      return;
    }
    if (found && found.seen) word.textContent = "This unit is not one of yours.";
    await new Promise(done => setTimeout(done, CAMERA_PAUSE_MS));
  }
}

async function makeDetector() {
  if (!("BarcodeDetector" in window)) return null;
  const formats = await BarcodeDetector.getSupportedFormats().catch(() => []);
  return formats.includes("qr_code") ? new BarcodeDetector({formats: ["qr_code"]}) : null;
}

async function look(video, detector, csrf) {
  if (detector) {
    const codes = await detector.detect(video);
    // The picture goes to the server only when there is a code in it: there it is looked up.
    if (!codes.length) return null;
  }
  const canvas = document.createElement("canvas");
  const scale = Math.min(1, SIDE_MAX / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = video.videoWidth * scale;
  canvas.height = video.videoHeight * scale;
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const form = new FormData();
  form.append("csrf", csrf);
  form.append("picture", await new Promise(done => canvas.toBlob(done, "image/jpeg", 0.8)), "frame.jpg");
  const answer = await fetch("/scan", {method: "POST", body: form, headers: {Accept: "application/json"}});
  return answer.ok ? answer.json() : null;
}

// --- A unit on its way: what changes of it, without a reload. ---

async function follow(id) {
  for (;;) {
    await new Promise(done => setTimeout(done, REFRESH_MS));
    if (document.hidden) continue;
    const answer = await fetch(location.href).catch(() => null);
    if (!answer || !answer.ok) continue;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(id), old = document.getElementById(id);
    if (!fresh) { location.reload(); return; }
    if (fresh.innerHTML !== old.innerHTML) old.replaceWith(fresh);
    if (!("refresh" in fresh.dataset)) return;
  }
}

// --- One more row where the last one has been begun. ---

function grow(box) {
  const last = box.lastElementChild;
  if (!last || ![...last.querySelectorAll("input")].some(input => input.value)) return;
  const fresh = last.cloneNode(true), number = box.children.length + 1;
  fresh.querySelectorAll("input").forEach(input => { input.value = ""; });
  fresh.querySelectorAll("[aria-label]").forEach(
    one => one.setAttribute("aria-label", one.getAttribute("aria-label").replace(/\d+$/, number)));
  box.append(fresh);
}

const camera = document.getElementById("camera");
const start = document.getElementById("camera-start");
if (camera && navigator.mediaDevices) {
  start.hidden = false;
  start.addEventListener("click", () => startCamera(camera, start));
}
if (document.querySelector("#live[data-refresh]")) follow("live");
document.querySelectorAll("[data-rows]").forEach(
  box => box.addEventListener("input", () => grow(box)));
