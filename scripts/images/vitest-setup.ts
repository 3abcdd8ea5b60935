import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Of what tests make their sessions. */
const images = ['shell', 'python', 'jupyter', 'node', 'debian'];

/** An engine that answers and has the images, before any file of the project runs; building them takes minutes once. */
export default function prepareEngine(): Promise<void> {
  return ensureImages(images);
}

/** In the engine of DOCKER_HOST, or of the machine. */
export async function ensureImages(names: readonly string[]): Promise<void> {
  const script = join(import.meta.dirname, '../build-images.sh');
  await promisify(execFile)(script, names).catch((error: { stderr?: string }) => {
    throw new Error(`Tests on a container engine cannot run here. ${error.stderr}`);
  });
}
