// Small comforts. Every page works without this file.
"use strict";
document.documentElement.classList.add("script");

// Says that long work is going on, and for how long.
for (const form of document.querySelectorAll("form[data-progress]")) {
  form.addEventListener("submit", () => {
    const line = form.querySelector(".progress");
    const button = form.querySelector("button[type=submit]");
    const started = Date.now();
    const say = () => {
      const seconds = Math.round((Date.now() - started) / 1000);
      line.textContent = seconds < 1 ? form.dataset.progress : form.dataset.progress + ", " + seconds + " s";
    };
    line.hidden = false;
    say();
    const clock = setInterval(say, 1000);
    // After the submission has begun: a disabled button would not be sent.
    setTimeout(() => { button.disabled = true; }, 0);
    window.addEventListener("pageshow", () => {
      clearInterval(clock);
      button.disabled = false;
      line.hidden = true;
    }, { once: true });
  });
}

// Drag and drop onto the file field, and the size limit before anything is sent.
for (const zone of document.querySelectorAll("[data-drop]")) {
  const input = zone.querySelector("input[type=file]");
  const note = zone.querySelector(".drop-name");
  const bytesMax = Number(zone.dataset.bytesMax);
  const check = () => {
    const file = input.files[0];
    const tooLarge = file !== undefined && file.size > bytesMax;
    const text = tooLarge ? "This file has " + file.size + " bytes; the limit is " + bytesMax + "." : "";
    note.textContent = text;
    input.setCustomValidity(text);
  };
  input.addEventListener("change", check);
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => { event.preventDefault(); zone.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) {
    zone.addEventListener(kind, () => zone.classList.remove("over"));
  }
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length > 0) {
      input.files = event.dataTransfer.files;
      check();
    }
  });
}

// A copy button on machine text.
for (const block of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  const box = document.createElement("div");
  box.className = "copy-box";
  block.replaceWith(box);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  box.append(block, button);
}

// A button that opens the browser's print dialog.
for (const button of document.querySelectorAll("[data-print]")) {
  button.addEventListener("click", () => window.print());
}
