// Figures as people read them. Three significant digits, units always named, a dash for what is not known.

const NONE = "–";

const digits = (value) => {
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size >= 100) return String(Math.round(value));
  if (size >= 10) return String(Number(value.toFixed(1)));
  return String(Number(value.toFixed(2)));
};

const isKnown = (value) => typeof value === "number" && Number.isFinite(value);

export const count = (value) => (isKnown(value) ? Math.round(value).toLocaleString("en") : NONE);
export const speed = (value) => (isKnown(value) ? `${digits(value)} tokens/s` : NONE);
export const rate = (value, unit) => (isKnown(value) ? `${digits(value)} ${unit}` : NONE);
export const percent = (value) => (isKnown(value) ? `${digits(value * 100)} %` : NONE);

export function seconds(value) {
  if (!isKnown(value)) return NONE;
  if (value < 1) return `${digits(value * 1000)} ms`;
  if (value < 120) return `${digits(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172_800) return `${digits(value / 3600)} h`;
  return `${digits(value / 86_400)} days`;
}

export function bytes(value) {
  if (!isKnown(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let size = value;
  for (; size >= 1024 && at < units.length - 1; at += 1) size /= 1024;
  return `${digits(size)} ${units[at]}`;
}
