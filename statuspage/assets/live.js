(() => {
  "use strict";
  const root = document.documentElement;
  const state = document.getElementById("live-state");
  const button = document.getElementById("live-switch");
  if (!window.EventSource || !state || !button) return;
  let source = null;

  // morph makes a node like another one, and leaves alone what is equal: focus, selection, scroll
  // positions and what the reader has opened stay.
  const morph = (from, to) => {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || from.id !== to.id) {
      from.replaceWith(to);
      return;
    }
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    for (const a of [...from.attributes]) {
      if (!to.hasAttribute(a.name) && !(a.name === "open" && from.nodeName === "DETAILS")) from.removeAttribute(a.name);
    }
    for (const a of to.attributes) {
      if (from.getAttribute(a.name) !== a.value) from.setAttribute(a.name, a.value);
    }
    const now = [...to.childNodes];
    now.forEach((n, i) => {
      const old = from.childNodes[i];
      if (old) morph(old, n); else from.append(n);
    });
    while (from.childNodes.length > now.length) from.lastChild.remove();
  };

  const show = (html) => {
    const next = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    const old = next && document.getElementById(next.id);
    if (!old) return;
    morph(old, document.importNode(next, true));
    if (next.dataset.title) document.title = next.dataset.title;
  };

  // reload loads the page anew, because another process answers, or one with other pools. It does so
  // once a minute at most: behind a load balancer two processes might answer in turn.
  const reload = () => {
    close();
    let last = 0;
    try {
      last = Number(sessionStorage.getItem("poolkeeper-reloaded"));
      sessionStorage.setItem("poolkeeper-reloaded", String(Date.now()));
    } catch { last = Date.now(); }
    if (Date.now() - last > 60000) {
      location.reload();
      return;
    }
    root.dataset.live = "off";
    state.textContent = "Another process answers: reload the page";
    button.textContent = "Try again";
  };

  const close = () => { if (source) source.close(); source = null; };

  const open = () => {
    close();
    source = new EventSource("live");
    source.addEventListener("hello", (e) => {
      if (e.data !== root.dataset.shape) { reload(); return; }
      state.textContent = "Live";
      root.dataset.live = "on";
    });
    source.addEventListener("part", (e) => show(JSON.parse(e.data).html));
    source.onerror = () => {
      root.dataset.live = "off";
      if (source && source.readyState === EventSource.CLOSED) {
        state.textContent = "Not live: no more updates are given";
        button.textContent = "Try again";
        close();
      } else {
        state.textContent = "Connection lost: trying again";
      }
    };
    button.textContent = "Pause updates";
  };

  button.addEventListener("click", () => {
    if (source) {
      close();
      root.dataset.live = "paused";
      state.textContent = "Paused";
      button.textContent = "Resume updates";
    } else {
      open();
    }
  });
  button.hidden = false;
  open();
})();
