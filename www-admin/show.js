/** Numbers as people read them. Pure. */

/** @param {number | null} value */
export function milliseconds(value) {
  if (value === null) return '–';
  if (value < 1) return `${(value * 1000).toFixed(0)} µs`;
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 1000) return `${value.toFixed(0)} ms`;
  return `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
}

/** @param {number | null | undefined} value */
export function perSecond(value) {
  if (value === null || value === undefined) return '–';
  return `${short(value)}/s`;
}

/** @param {number | null} value */
export function percent(value) {
  if (value === null) return '–';
  if (value === 0 || value >= 10) return `${value.toFixed(0)} %`;
  return value < 0.1 ? '< 0.1 %' : `${value.toFixed(1)} %`;
}

/** @param {number} value */
export function short(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)} k`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} k`;
  if (Number.isInteger(value) || value >= 10) return value.toFixed(0);
  return value.toFixed(1);
}

/** @param {number} value in bytes */
export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 10 || value === 0 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.floor(seconds))} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}
