/** Prints where a container engine answers; exits with 1, and says why, where none does: for scripts/test.sh. */
import { AppError } from '@backend.ai/core';
import { Engine } from './engine.ts';

try {
  console.log((await Engine.connect(process.env)).name);
} catch (thrown) {
  console.error(AppError.from(thrown).message);
  process.exitCode = 1;
}
