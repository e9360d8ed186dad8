"use strict";(self.rspackChunkcellwright=self.rspackChunkcellwright||[]).push([[232],{8419(e,t,r){var o=r(1601),i=r.n(o),l=r(6314),a=r.n(l),p=r(5630),n=r(8282),d=r(5901),s=r(6606),c=a()(i());c.i(p.A),c.i(n.A),c.i(d.A),c.i(s.A),c.push([e.id,`/*
 * Copyright (c) Jupyter Development Team.
 * Distributed under the terms of the Modified BSD License.
 */

/*
    See the JupyterLab Developer Guide for useful CSS Patterns:

    https://jupyterlab.readthedocs.io/en/stable/developer/css.html
*/
`,""]),r.d(t,{},{A:c})},5901(e,t,r){var o=r(1601),i=r.n(o),l=r(6314),a=(r.n(l))()(i());a.push([e.id,`/*
 * Copyright (c) Jupyter Development Team.
 * Distributed under the terms of the Modified BSD License.
 */

/* Chat search input in toolbar */
.jp-chat-search-input {
  padding: 4px 8px;
  border: 1px solid var(--jp-border-color1);
  border-radius: 3px;
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size1);
  min-width: 150px;
  outline: none;
}

.jp-chat-search-input:focus {
  border-color: var(--jp-brand-color1);
  box-shadow: inset 0 0 0 1px var(--jp-brand-color1);
}

.jp-chat-search-input::placeholder {
  color: var(--jp-ui-font-color2);
}

/* Chat selector popup */
.jp-chat-selector-popup {
  background: var(--jp-layout-color1);
  border: 1px solid var(--jp-border-color1);
  border-radius: 4px;
  box-shadow: 0 4px 12px rgb(0 0 0 / 15%);
  overflow: hidden;
  display: flex;
  flex-direction: column;
  z-index: 10;
  position: fixed;
  min-width: 150px;
  max-width: 300px;
  max-height: 400px;
}

/* Popup list container */
.jp-chat-selector-popup-list {
  list-style: none;
  margin: 0;
  padding: 4px 0;
  overflow-y: auto;
  max-height: 400px;
}

/* Popup list item */
.jp-chat-selector-popup-item {
  padding: 8px 12px;
  cursor: pointer;
  transition: background-color 0.1s ease;
}

.jp-chat-selector-popup-item:hover {
  background: var(--jp-layout-color2);
}

.jp-chat-selector-popup-item-active {
  background: var(--jp-brand-color1);
  color: var(--jp-ui-inverse-font-color1);
}

.jp-chat-selector-popup-item-active:hover {
  background: var(--jp-brand-color1);
}

/* Item content layout */
.jp-chat-selector-popup-item-content {
  display: flex;
  align-items: center;
  justify-content: space-between;
  gap: 8px;
  min-height: 32px;
}

.jp-chat-selector-popup-item-text {
  display: flex;
  flex-direction: column;
  gap: 2px;
  flex: 1;
  min-width: 0;
}

/* Item label (chat name) */
.jp-chat-selector-popup-item-label {
  font-size: var(--jp-ui-font-size1);
  font-weight: 500;
  display: flex;
  align-items: center;
  gap: 6px;
  min-width: 0;
}

.jp-chat-selector-popup-item-name {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
  flex: 1;
  min-width: 0;
}

/* Cached indicator (bullet) */
.jp-chat-selector-popup-item-indicator {
  font-size: 8px;
  color: var(--jp-brand-color1);
  line-height: 1;
}

.jp-chat-selector-popup-item-active .jp-chat-selector-popup-item-indicator {
  color: var(--jp-layout-color3);
}

/* Close button */
.jp-chat-selector-popup-item-close:hover {
  background: var(--jp-layout-color3);
  color: var(--jp-ui-font-color0);
}

.jp-chat-selector-popup-item-active
  .jp-chat-selector-popup-item-close
  .jp-icon3[fill] {
  fill: var(--jp-layout-color3);
  opacity: 0.8;
}

.jp-chat-selector-popup-item-active .jp-chat-selector-popup-item-close:hover {
  background: rgb(0 0 0 / 20%);
  opacity: 1;
}

/* Empty state */
.jp-chat-selector-popup-empty {
  padding: 12px;
  text-align: center;
  color: var(--jp-ui-font-color2);
  font-style: italic;
  font-size: var(--jp-ui-font-size1);
}

/* Scrollbar styling for the list */
.jp-chat-selector-popup-list::-webkit-scrollbar {
  width: 8px;
}

.jp-chat-selector-popup-list::-webkit-scrollbar-track {
  background: var(--jp-layout-color1);
}

.jp-chat-selector-popup-list::-webkit-scrollbar-thumb {
  background: var(--jp-scrollbar-thumb-color);
  border-radius: 4px;
}

.jp-chat-selector-popup-list::-webkit-scrollbar-thumb:hover {
  background: var(--jp-scrollbar-thumb-hover-color);
}
`,""]),r.d(t,{},{A:a})},8282(e,t,r){var o=r(1601),i=r.n(o),l=r(6314),a=(r.n(l))()(i());a.push([e.id,`/*
 * Copyright (c) Jupyter Development Team.
 * Distributed under the terms of the Modified BSD License.
 */

.jp-chat-SettingsHeader {
  font-size: var(--jp-ui-font-size3);
  font-weight: 400;
  color: var(--jp-ui-font-color1);
}
`,""]),r.d(t,{},{A:a})},5630(e,t,r){var o=r(1601),i=r.n(o),l=r(6314),a=(r.n(l))()(i());a.push([e.id,`/*
 * Copyright (c) Jupyter Development Team.
 * Distributed under the terms of the Modified BSD License.
 */

.jp-chat-widget {
  min-height: 0;
  flex-grow: 1;
}

.jp-chat-message-container {
  position: relative;
}

.jp-chat-rendered-message hr {
  color: #00000026;
  background-color: transparent;
}

.jp-chat-message .jp-RenderedHTMLCommon > :last-child {
  margin-bottom: 0;
}

/*
 * Selectors must be nested in \`.jp-ThemedContainer\` to have a higher
 * specificity than selectors in rules provided by JupyterLab.
 *
 * See: https://jupyterlab.readthedocs.io/en/latest/extension/extension_migration.html#css-styling
 * See also: https://github.com/jupyterlab/jupyter-ai/issues/1090
 */
.jp-ThemedContainer .jp-chat-welcome-message {
  padding: 0 1em;
}

.jp-ThemedContainer .jp-chat-rendered-message .jp-RenderedHTMLCommon {
  padding-right: 0;
}

.jp-ThemedContainer .jp-chat-rendered-message .jp-RenderedJSON {
  padding-left: 5px;
}

.jp-ThemedContainer .jp-chat-rendered-message .jp-RenderedMarkdown pre,
.jp-ThemedContainer .jp-chat-welcome-message .jp-RenderedMarkdown pre {
  background-color: var(--jp-cell-editor-background);
  overflow-x: auto;
  white-space: pre;
  margin: 0;
  padding: 4px 6px;
  border: var(--jp-border-width) solid var(--jp-cell-editor-border-color);
}

.jp-ThemedContainer .jp-RenderedMarkdown pre > code {
  background-color: inherit;
  overflow-x: inherit;
  white-space: inherit;
}

.jp-ThemedContainer .jp-RenderedHTMLCommon mjx-container {
  font-size: 119%;
}

.jp-chat-toolbar {
  visibility: hidden;
  position: absolute;
  right: 0;
  top: 0;
  font-size: var(--jp-ui-font-size0);
  color: var(--jp-ui-font-color3);
}

.jp-chat-toolbar:hover {
  cursor: pointer;
  color: var(--jp-ui-font-color2);
}

.jp-chat-message-container:hover .jp-chat-toolbar {
  visibility: visible;
}

.jp-chat-toolbar > .jp-ToolbarButtonComponent {
  margin-top: 0;
}

.jp-chat-navigation {
  position: absolute;
  right: 10px;
  width: 24px;
  height: 24px;
  border-radius: 50%;
  min-width: 0;
}

.jp-chat-navigation-unread {
  border: solid 2px var(--jp-cell-inprompt-font-color);
}

.jp-chat-navigation::part(control) {
  padding: 0;
}

.jp-chat-navigation-top {
  top: 10px;
}

.jp-chat-navigation-top svg {
  transform: rotate(180deg);
}

.jp-chat-navigation-bottom {
  bottom: 120px;
}

.jp-chat-mention {
  border-radius: 4px;
  padding: 2px 0;
  font-weight: bold;
}

.jp-chat-sidepanel .jp-chat-open {
  flex: 1 1 0%;
  min-width: 0;
  max-width: fit-content;
}

/* Sidepanel styles */
.jp-chat-sidepanel {
  display: flex;
  flex-direction: column;
}

.jp-chat-sidepanel .jp-chat-add svg path.jp-icon3 {
  stroke: var(--jp-inverse-layout-color3);
  stroke-width: 2;
}

.jp-chat-sidepanel-widget {
  min-height: 0;
  display: flex;
  flex-direction: column;
  flex-grow: 1;
}

.jp-chat-sidepanel-widget-toolbar > .jp-chat-sidepanel-widget-title {
  display: block;
  align-content: center;
  flex: 1 1 0%;
  min-width: 0;
  overflow: hidden;
  text-overflow: ellipsis;
  text-transform: uppercase;
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size0);
  font-weight: bold;
}
`,""]),r.d(t,{},{A:a})},5982(e,t,r){var o=r(1601),i=r.n(o),l=r(6314),a=r.n(l),p=r(8419),n=a()(i());n.i(p.A),n.push([e.id,`/*
 * Copyright (c) Jupyter Development Team.
 * Distributed under the terms of the Modified BSD License.
 */
`,""]),r.d(t,{},{A:n})},6606(e,t,r){var o=r(1601),i=r.n(o),l=r(6314),a=(r.n(l))()(i());a.push([e.id,`/*
 * Copyright (c) Jupyter Development Team.
 * Distributed under the terms of the Modified BSD License.
 */

/*
  * INPUT CONTAINER (component and toolbar)
  */
.jp-chat-input-container {
  position: relative;
  transition: all 150ms ease;
  display: flex;
  flex-direction: column;
  justify-content: center;
  flex: 0 0 auto;
}

.jp-chat-input-container.jp-chat-drag-hover::after {
  content: '';
  position: absolute;
  inset: 0;
  background: rgb(33 150 243 / 10%);
  border: 2px dashed var(--mui-palette-primary-main);
  border-radius: 4px;
  pointer-events: none;
  z-index: 1;
}

.jp-chat-input-container.jp-chat-drag-hover::before {
  content: 'Drop files or cells here';
  position: absolute;
  top: -24px;
  left: 50%;
  transform: translateX(-50%);
  color: var(--mui-palette-primary-main);
  font-size: 12px;
  font-weight: 500;
  pointer-events: none;
  background: var(--jp-layout-color0);
  padding: 2px 8px;
  border-radius: 3px;
  white-space: nowrap;
}

.jp-chat-input-toolbar .jp-chat-send-include-opener {
  padding: 4px 0;
}

.jp-chat-input-container:focus-within > div:first-of-type {
  border-color: var(--mui-palette-primary-main);
}
`,""]),r.d(t,{},{A:a})},8475(e,t,r){var o=r(1601),i=r.n(o),l=r(6314),a=r.n(l),p=r(5982),n=a()(i());n.i(p.A),n.push([e.id,`.jp-Cellwright-sidebar {
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  min-width: 260px;
}

.jp-Cellwright-sidebar > .jp-Cellwright {
  height: 100%;
}

.jp-Cellwright {
  display: flex;
  flex-direction: column;
  container-type: inline-size;
  font-size: var(--jp-ui-font-size1);
}

.jp-Cellwright-body {
  flex: 1 1 auto;
  min-height: 0;
  overflow: hidden;
}

.jp-Cellwright-unseen {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}

.jp-Cellwright :focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: 1px;
}

/* The head */

.jp-Cellwright-header {
  border-bottom: 1px solid var(--jp-border-color2);
}

.jp-Cellwright-title,
.jp-Cellwright-about,
.jp-Cellwright-search {
  display: flex;
  align-items: center;
  gap: 4px;
  padding: 4px 8px;
}

.jp-Cellwright-name {
  flex: 1 1 auto;
  display: flex;
  align-items: center;
  gap: 4px;
  min-width: 0;
  padding: 4px;
  border: none;
  border-radius: 4px;
  background: none;
  color: inherit;
  font: inherit;
  font-weight: 600;
  text-align: left;
}

.jp-Cellwright-name > span:first-child {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

button.jp-Cellwright-name:hover,
.jp-Cellwright-fold:hover,
.jp-Cellwright-session:hover {
  background: var(--jp-layout-color2);
  cursor: pointer;
}

.jp-Cellwright-about {
  justify-content: space-between;
  padding: 0 12px 4px;
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
}

.jp-Cellwright-about > span {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.jp-Cellwright-lamp {
  display: inline-block;
  width: 8px;
  height: 8px;
  margin-right: 5px;
  border-radius: 50%;
  border: 1px solid var(--jp-ui-font-color3);
  box-sizing: border-box;
}

[data-status='idle'] > .jp-Cellwright-lamp,
[data-status='restored'] > .jp-Cellwright-lamp,
[data-status='restarted'] > .jp-Cellwright-lamp {
  background: var(--jp-success-color1);
  border-color: transparent;
}

[data-status='busy'] > .jp-Cellwright-lamp,
[data-status='starting'] > .jp-Cellwright-lamp {
  background: var(--jp-warn-color1);
  border-color: transparent;
}

[data-status='died'] > .jp-Cellwright-lamp {
  background: var(--jp-error-color1);
  border-color: transparent;
}

.jp-Cellwright-tabs {
  display: flex;
  padding: 0 8px;
}

.jp-Cellwright .jp-Cellwright-tab {
  flex: 1 1 0;
  height: 28px;
  border-radius: 0;
  border-bottom: 2px solid transparent;
  color: var(--jp-ui-font-color1);
}

.jp-Cellwright .jp-Cellwright-tab[aria-selected='true'] {
  border-bottom-color: var(--jp-brand-color1);
  font-weight: 600;
}

/* Small parts */

.jp-Cellwright-button {
  display: inline-flex;
  align-items: center;
  gap: 4px;
  height: 22px;
  min-width: 22px;
  padding: 0 4px;
  border: none;
  border-radius: 4px;
  background: none;
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size0);
}

.jp-Cellwright-button:hover:not(:disabled) {
  background: var(--jp-layout-color3);
  cursor: pointer;
}

.jp-Cellwright-button:disabled {
  opacity: 0.4;
}

.jp-Cellwright-button > span {
  display: inline-flex;
}

.jp-Cellwright-tools {
  display: inline-flex;
  margin-left: auto;
  flex: none;
}

.jp-Cellwright-link {
  padding: 0;
  border: none;
  background: none;
  color: var(--jp-content-link-color, var(--jp-brand-color1));
  font: inherit;
  text-align: left;
  cursor: pointer;
}

.jp-Cellwright-link:hover {
  text-decoration: underline;
}

.jp-Cellwright-empty {
  padding: 24px 16px;
  color: var(--jp-ui-font-color2);
  text-align: center;
  line-height: 1.5;
}

.jp-Cellwright-note {
  margin: 6px 0;
  padding: 6px 10px;
  border-left: 3px solid var(--jp-info-color1);
  background: var(--jp-layout-color2);
  line-height: 1.45;
  overflow-wrap: anywhere;
}

.jp-Cellwright-note[data-level='warning'] {
  border-left-color: var(--jp-warn-color1);
}

.jp-Cellwright-note[data-level='error'] {
  border-left-color: var(--jp-error-color1);
}

.jp-Cellwright-view {
  height: 100%;
  overflow: auto;
  padding: 8px;
  box-sizing: border-box;
}

.jp-Cellwright pre {
  margin: 0;
  white-space: pre-wrap;
  overflow-wrap: anywhere;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
}

/* A turn */

.jp-Cellwright-steps {
  display: flex;
  flex-direction: column;
  gap: 6px;
}

.jp-Cellwright-thinking,
.jp-Cellwright-tool {
  color: var(--jp-ui-font-color2);
}

.jp-Cellwright summary {
  cursor: pointer;
  padding: 2px 0;
}

.jp-Cellwright-thinking > .jp-Cellwright-markdown,
.jp-Cellwright-tool > pre {
  padding: 2px 0 2px 10px;
  border-left: 2px solid var(--jp-border-color2);
  max-height: 300px;
  overflow: auto;
}

.jp-Cellwright-cell {
  border: 1px solid var(--jp-border-color2);
  border-left: 3px solid var(--jp-border-color1);
  border-radius: 4px;
  background: var(--jp-layout-color0);
  overflow: hidden;
}

.jp-Cellwright-cell[data-status='ok'] {
  border-left-color: var(--jp-success-color1);
}

.jp-Cellwright-cell[data-status='running'],
.jp-Cellwright-cell[data-status='writing'] {
  border-left-color: var(--jp-brand-color1);
}

.jp-Cellwright-cell[data-status='error'],
.jp-Cellwright-cell[data-status='interrupted'],
.jp-Cellwright-cell[data-status='timeout'],
.jp-Cellwright-cell[data-status='kernel_died'],
.jp-Cellwright-cell[data-status='outcome_unknown'] {
  border-left-color: var(--jp-error-color1);
}

.jp-Cellwright-cell-head {
  display: flex;
  align-items: center;
  gap: 4px;
  padding: 2px 4px;
  background: var(--jp-layout-color1);
}

.jp-Cellwright-fold {
  display: flex;
  align-items: center;
  gap: 2px;
  min-width: 0;
  flex: 1 1 auto;
  padding: 2px;
  border: none;
  border-radius: 4px;
  background: none;
  color: inherit;
  font: inherit;
  text-align: left;
}

.jp-Cellwright-fold > span:first-child {
  display: inline-flex;
  flex: none;
  transition: transform 0.1s;
}

.jp-Cellwright-fold > .jp-mod-open {
  transform: rotate(90deg);
}

.jp-Cellwright-cell-name {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.jp-Cellwright-cell-state,
.jp-Cellwright-elapsed {
  flex: none;
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
  font-variant-numeric: tabular-nums;
}

.jp-Cellwright-code pre,
.jp-Cellwright .jp-Cellwright-code .jp-RenderedHTMLCommon pre {
  margin: 0;
  padding: 6px 8px;
  max-height: 360px;
  overflow: auto;
  white-space: pre;
  background: var(--jp-cell-editor-background);
}

.jp-Cellwright-code .jp-RenderedMarkdown,
.jp-Cellwright-outputs .jp-OutputArea-output {
  padding: 0;
}

.jp-Cellwright-outputs:not(:empty) {
  max-height: 480px;
  overflow: auto;
}

.jp-Cellwright-outputs .jp-OutputArea-child {
  padding: 4px 8px;
}

.jp-Cellwright-outputs img {
  max-width: 100%;
  height: auto;
}

.jp-Cellwright-failure {
  padding: 6px 8px;
  background: var(--jp-rendermime-error-background);
  color: var(--jp-ui-font-color1);
  overflow-wrap: anywhere;
}

.jp-Cellwright-failure details > div {
  overflow-x: auto;
}

.jp-Cellwright-status {
  display: flex;
  align-items: center;
  gap: 6px;
  color: var(--jp-ui-font-color2);
}

.jp-Cellwright-pulse {
  width: 8px;
  height: 8px;
  border-radius: 50%;
  background: var(--jp-brand-color1);
  animation: jp-cellwright-pulse 1.4s ease-in-out infinite;
}

@keyframes jp-cellwright-pulse {
  50% {
    opacity: 0.25;
  }
}

@media (prefers-reduced-motion: reduce) {
  .jp-Cellwright-pulse {
    animation: none;
  }
}

.jp-Cellwright-approval {
  padding: 8px 10px;
  border: 2px solid var(--jp-warn-color1);
  border-radius: 4px;
  background: var(--jp-layout-color0);
}

.jp-Cellwright-approval ul {
  margin: 4px 0;
  padding-left: 20px;
}

.jp-Cellwright-approval textarea {
  width: 100%;
  box-sizing: border-box;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
  color: var(--jp-content-font-color1);
  background: var(--jp-cell-editor-background);
  border: 1px solid var(--jp-border-color1);
}

.jp-Cellwright-choices {
  display: flex;
  flex-wrap: wrap;
  gap: 6px;
  margin-top: 8px;
}

.jp-Cellwright-end {
  width: 100%;
  min-width: 0;
}

.jp-Cellwright-facts {
  display: flex;
  align-items: center;
  min-height: 24px;
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
}

.jp-Cellwright .jp-chat-message > div:last-child > :first-child:not(:empty) {
  flex: 1 1 auto;
}

/* The chat's own parts, calmer */

.jp-Cellwright .jp-chat-widget,
.jp-Cellwright .jp-chat-widget .jp-ThemedContainer {
  background: var(--jp-layout-color1);
}

.jp-Cellwright .jp-chat-rendered-message .jp-RenderedMarkdown {
  padding-left: 0;
}

.jp-Cellwright-markdown .jp-RenderedMarkdown {
  padding: 0;
}

.jp-Cellwright-markdown > .jp-RenderedMarkdown > :last-child {
  margin-bottom: 0;
}

/* Artifacts */

.jp-Cellwright-cards {
  display: grid;
  grid-template-columns: repeat(auto-fill, minmax(120px, 1fr));
  gap: 6px;
  margin: 8px 0 4px;
}

.jp-Cellwright-gallery {
  display: grid;
  grid-template-columns: repeat(auto-fill, minmax(200px, 1fr));
  gap: 8px;
}

.jp-Cellwright-card {
  display: flex;
  flex-direction: column;
  min-width: 0;
  border: 1px solid var(--jp-border-color2);
  border-radius: 4px;
  background: var(--jp-layout-color0);
  overflow: hidden;
}

.jp-Cellwright-card-face {
  display: flex;
  flex-direction: column;
  gap: 2px;
  padding: 6px;
  border: none;
  background: none;
  color: inherit;
  font: inherit;
  text-align: left;
  cursor: pointer;
}

.jp-Cellwright-card-face:hover {
  background: var(--jp-layout-color2);
}

.jp-Cellwright-card img,
.jp-Cellwright-blank {
  width: 100%;
  height: 84px;
  object-fit: contain;
  background: #fff;
}

.jp-Cellwright-gallery .jp-Cellwright-card img {
  height: 140px;
}

.jp-Cellwright-card-name {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.jp-Cellwright-card-size,
.jp-Cellwright-session-about,
.jp-Cellwright-session-preview {
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
}

.jp-Cellwright-lineage {
  padding: 4px 8px 8px;
  line-height: 1.5;
  overflow-wrap: anywhere;
}

.jp-Cellwright-table {
  max-height: 240px;
  overflow: auto;
  border-top: 1px solid var(--jp-border-color2);
}

.jp-Cellwright-table table,
.jp-Cellwright-variables {
  border-collapse: collapse;
  font-size: var(--jp-ui-font-size0);
}

.jp-Cellwright-table :is(td, th) {
  padding: 2px 6px;
  text-align: left;
  white-space: nowrap;
}

.jp-Cellwright-table th small {
  display: block;
  color: var(--jp-ui-font-color2);
  font-weight: normal;
}

.jp-Cellwright-table tbody tr:nth-child(odd) {
  background: var(--jp-layout-color2);
}

/* Variables */

.jp-Cellwright-variables {
  width: 100%;
  font-size: var(--jp-ui-font-size1);
}

.jp-Cellwright-variables caption {
  display: flex;
  justify-content: space-between;
  align-items: center;
  padding: 0 4px 4px;
  color: var(--jp-ui-font-color2);
}

.jp-Cellwright-variables thead th {
  color: var(--jp-ui-font-color2);
  font-weight: normal;
}

.jp-Cellwright-variables > :is(thead, tbody) > tr > :is(th, td) {
  padding: 3px 6px;
  text-align: left;
  border-bottom: 1px solid var(--jp-border-color3);
  overflow-wrap: anywhere;
}

.jp-Cellwright-variables tbody th {
  font-family: var(--jp-code-font-family);
  font-weight: 600;
}

.jp-Cellwright-dot {
  width: 7px;
  height: 7px;
  margin-left: 5px;
  border-radius: 50%;
  background: var(--jp-brand-color1);
}

.jp-Cellwright-detail img {
  max-width: 100%;
}

/* Sessions */

.jp-Cellwright-sessions {
  padding: 4px 0;
}

.jp-Cellwright-search input {
  flex: 1 1 auto;
  min-width: 0;
}

.jp-Cellwright-sessions ul {
  margin: 4px 0;
  padding: 0;
  list-style: none;
}

.jp-Cellwright-sessions li {
  display: flex;
  align-items: center;
  padding: 0 8px;
}

.jp-Cellwright-sessions li[data-current] {
  background: var(--jp-layout-color2);
}

.jp-Cellwright-session {
  flex: 1 1 auto;
  display: flex;
  flex-direction: column;
  gap: 1px;
  min-width: 0;
  padding: 6px;
  border: none;
  border-radius: 4px;
  background: none;
  color: inherit;
  font: inherit;
  text-align: left;
}

.jp-Cellwright-session > span {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
  max-width: 100%;
}

.jp-Cellwright-session-title {
  font-weight: 600;
}

.jp-Cellwright-badge {
  display: inline-block;
  margin-left: 6px;
  padding: 0 6px;
  border-radius: 8px;
  background: var(--jp-brand-color1);
  color: var(--jp-ui-inverse-font-color1);
  font-size: var(--jp-ui-font-size0);
}
`,""]),r.d(t,{},{A:n})},6314(e){e.exports=function(e){var t=[];return t.toString=function(){return this.map(function(t){var r="",o=void 0!==t[5];return t[4]&&(r+="@supports (".concat(t[4],") {")),t[2]&&(r+="@media ".concat(t[2]," {")),o&&(r+="@layer".concat(t[5].length>0?" ".concat(t[5]):""," {")),r+=e(t),o&&(r+="}"),t[2]&&(r+="}"),t[4]&&(r+="}"),r}).join("")},t.i=function(e,r,o,i,l){"string"==typeof e&&(e=[[null,e,void 0]]);var a={};if(o)for(var p=0;p<this.length;p++){var n=this[p][0];null!=n&&(a[n]=!0)}for(var d=0;d<e.length;d++){var s=[].concat(e[d]);o&&a[s[0]]||(void 0!==l&&(void 0===s[5]||(s[1]="@layer".concat(s[5].length>0?" ".concat(s[5]):""," {").concat(s[1],"}")),s[5]=l),r&&(s[2]&&(s[1]="@media ".concat(s[2]," {").concat(s[1],"}")),s[2]=r),i&&(s[4]?(s[1]="@supports (".concat(s[4],") {").concat(s[1],"}"),s[4]=i):s[4]="".concat(i)),t.push(s))}},t}},1601(e){e.exports=function(e){return e[1]}},5072(e){var t=[];function r(e){for(var r=-1,o=0;o<t.length;o++)if(t[o].identifier===e){r=o;break}return r}function o(e,o){for(var i={},l=[],a=0;a<e.length;a++){var p=e[a],n=o.base?p[0]+o.base:p[0],d=i[n]||0,s="".concat(n," ").concat(d);i[n]=d+1;var c=r(s),h={css:p[1],media:p[2],sourceMap:p[3],supports:p[4],layer:p[5]};if(-1!==c)t[c].references++,t[c].updater(h);else{var u=function(e,t){var r=t.domAPI(t);return r.update(e),function(t){t?(t.css!==e.css||t.media!==e.media||t.sourceMap!==e.sourceMap||t.supports!==e.supports||t.layer!==e.layer)&&r.update(e=t):r.remove()}}(h,o);o.byIndex=a,t.splice(a,0,{identifier:s,updater:u,references:1})}l.push(s)}return l}e.exports=function(e,i){var l=o(e=e||[],i=i||{});return function(e){e=e||[];for(var a=0;a<l.length;a++){var p=r(l[a]);t[p].references--}for(var n=o(e,i),d=0;d<l.length;d++){var s=r(l[d]);0===t[s].references&&(t[s].updater(),t.splice(s,1))}l=n}}},7659(e){var t={};e.exports=function(e,r){var o=function(e){if(void 0===t[e]){var r=document.querySelector(e);if(window.HTMLIFrameElement&&r instanceof window.HTMLIFrameElement)try{r=r.contentDocument.head}catch(e){r=null}t[e]=r}return t[e]}(e);if(!o)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");o.appendChild(r)}},540(e){e.exports=function(e){var t=document.createElement("style");return e.setAttributes(t,e.attributes),e.insert(t,e.options),t}},5056(e,t,r){e.exports=function(e){var t=r.nc;t&&e.setAttribute("nonce",t)}},7825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var t=e.insertStyleElement(e);return{update:function(r){var o,i,l;o="",r.supports&&(o+="@supports (".concat(r.supports,") {")),r.media&&(o+="@media ".concat(r.media," {")),(i=void 0!==r.layer)&&(o+="@layer".concat(r.layer.length>0?" ".concat(r.layer):""," {")),o+=r.css,i&&(o+="}"),r.media&&(o+="}"),r.supports&&(o+="}"),(l=r.sourceMap)&&"u">typeof btoa&&(o+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(l))))," */")),e.styleTagTransform(o,t,e.options)},remove:function(){var e;null===(e=t).parentNode||e.parentNode.removeChild(e)}}}},1113(e){e.exports=function(e,t){if(t.styleSheet)t.styleSheet.cssText=e;else{for(;t.firstChild;)t.removeChild(t.firstChild);t.appendChild(document.createTextNode(e))}}},8579(e,t,r){var o=r(5072),i=r.n(o),l=r(7825),a=r.n(l),p=r(7659),n=r.n(p),d=r(5056),s=r.n(d),c=r(540),h=r.n(c),u=r(1113),g=r.n(u),j=r(8475),f={};f.styleTagTransform=g(),f.setAttributes=s(),f.insert=n().bind(null,"head"),f.domAPI=a(),f.insertStyleElement=h(),i()(j.A,f),j.A&&j.A.locals&&j.A.locals}}]);