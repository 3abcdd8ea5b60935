/** Processor architectures under the names that Linux has for them: `x86_64`, `aarch64`. */
export function canonicalArchitecture(text: string): string {
  const lower = text.toLowerCase();
  if (lower === 'amd64' || lower === 'x64') return 'x86_64';
  if (lower === 'arm64') return 'aarch64';
  return lower;
}
