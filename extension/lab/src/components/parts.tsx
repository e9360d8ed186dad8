/** Small parts that several views are made of. */

import { Button, type LabIcon } from '@jupyterlab/ui-components';
import { useEffect, useState, type ReactNode } from 'react';

import { seconds } from './words';

/** A button with a picture and, for who cannot see it, its name. */
export function IconButton(props: {
  icon: LabIcon;
  label: string;
  onClick: () => void;
  disabled?: boolean;
  text?: boolean;
}): JSX.Element {
  const { icon, label, onClick, disabled, text } = props;
  return (
    <Button
      small
      className="jp-Cellwright-button"
      onClick={onClick}
      disabled={disabled}
      title={label}
      aria-label={label}
    >
      <icon.react tag="span" width="14px" height="14px" />
      {text ? <span>{label}</span> : null}
    </Button>
  );
}

/** How long something runs, told every second. */
export function Elapsed({ since }: { since: string }): JSX.Element {
  const [now, tick] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => tick(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const ms = Math.max(0, now - Date.parse(since));
  return (
    <span className="jp-Cellwright-elapsed">
      {ms < 1000 ? '' : seconds(Math.floor(ms / 1000) * 1000).replace('.0', '')}
    </span>
  );
}

/** A word to the reader that stands out; an `alert` is told by screen readers at once. */
export function Note(props: {
  level: 'info' | 'warning' | 'error';
  alert?: boolean;
  children: ReactNode;
}): JSX.Element | null {
  return (
    <div className="jp-Cellwright-note" data-level={props.level} role={props.alert ? 'alert' : undefined}>
      {props.children}
    </div>
  );
}
