/** Numbers and times in words. */

export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) {
    return '';
  }
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = size;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function seconds(ms: number): string {
  if (ms < 1000) {
    return `${Math.round(ms)} ms`;
  }
  if (ms < 60_000) {
    return `${(ms / 1000).toFixed(1)} s`;
  }
  const minutes = Math.floor(ms / 60_000);
  return minutes < 60
    ? `${minutes} min ${Math.round((ms % 60_000) / 1000)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function tokens(count: number): string {
  return count < 1000
    ? `${count}`
    : count < 1_000_000
      ? `${(count / 1000).toFixed(1)}k`
      : `${(count / 1_000_000).toFixed(1)}M`;
}

export function money(dollars: number): string {
  return dollars === 0 ? '' : dollars < 0.01 ? '<$0.01' : `$${dollars.toFixed(2)}`;
}

export function ago(at: string, now = Date.now()): string {
  const past = (now - Date.parse(at)) / 1000;
  const format = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto', style: 'short' });
  if (past < 60) {
    return format.format(0, 'minute');
  }
  if (past < 3600) {
    return format.format(-Math.floor(past / 60), 'minute');
  }
  if (past < 86_400) {
    return format.format(-Math.floor(past / 3600), 'hour');
  }
  return past < 7 * 86_400 ? format.format(-Math.floor(past / 86_400), 'day') : new Date(at).toLocaleDateString();
}

export function shape(of: number[] | null | undefined): string {
  return of?.length ? of.join(' × ') : '';
}
