/** The page: the frame around the views, and which of them the address names. */

import { Execution } from "./execution.js";
import { Fleet } from "./fleet.js";
import { Inbox } from "./inbox.js";
import { Guard, Trouble } from "./parts.js";
import { propose } from "./person.js";
import { read } from "./server.js";
import { addressOf, html, render, useEffect, useLoaded, usePlace } from "./view.js";
import { visible } from "./words.js";
import { Workers } from "./workers.js";

const VIEWS = [
  ["", "Executions"],
  ["inbox", "Inbox"],
  ["workers", "Workers"],
];

function App() {
  const place = usePlace();
  const [view, id] = place.parts;
  const { value: about, error } = useLoaded(() => read("about"), 0);
  const readOnly = about?.read_only ?? true;
  useEffect(() => {
    if (about) propose(about.user);
  }, [about]);
  useEffect(() => {
    document.title = `${visible(id ?? view) || "executions"} · Outlast`;
  }, [view, id]);
  return html`<a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    }}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${addressOf([])}>Outlast</a>
      <nav aria-label="Views">
        ${VIEWS.map(([path, name]) => html`<a href=${addressOf([path])} aria-current=${view === path ? "page" : undefined}>${name}</a>`)}
      </nav>
      <span class="place">${visible(about?.title ?? "")}${about?.read_only ? " · read only" : ""}</span>
    </header>
    <main id="main" tabindex="-1">
      <${Trouble} error=${error} />
      <${Guard} key=${place.parts.join("/")}>${view === "executions" && id ? html`<${Execution} key=${id} id=${id} parameters=${place.parameters} readOnly=${readOnly} offered=${about?.actions ?? []} machine=${about?.machine} />`
      : view === "inbox" ? html`<${Inbox} readOnly=${readOnly} />`
      : view === "workers" ? html`<${Workers} />`
      : html`<${Fleet} parameters=${place.parameters} readOnly=${readOnly} offered=${about?.actions ?? []} />`}<//>
    </main>`;
}

render(html`<${App} />`, document.getElementById("app"));
