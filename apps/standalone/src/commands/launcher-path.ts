import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '@backend.ai/core';

/** `backend.ai` at the root of the repository, from wherever this file runs. */
export function launcherPath(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(folder, 'backend.ai');
    if (existsSync(candidate) && existsSync(join(folder, 'turbo.json'))) return candidate;
    const parent = dirname(folder);
    if (parent === folder) throw new AppError('config-invalid', 'The launcher backend.ai is missing.');
    folder = parent;
  }
}
