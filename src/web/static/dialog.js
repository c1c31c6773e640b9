/** A dialog that the keyboard stays in, until it is closed. */

import { html, useEffect, useRef } from "./view.js";

export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => shown.close();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${(event) => {
    event.preventDefault();
    onClose();
  }}>
    <h2 id="dialog-title">${title}</h2>
    ${children}
  </dialog>`;
}
