import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Of what tests make their sessions. */
const images = ['shell', 'python', 'debian'];

/** An engine that answers and has the images, before any file of the project runs; building them takes minutes once. */
export default async function prepareEngine(): Promise<void> {
  const script = join(import.meta.dirname, '../build-images.sh');
  await promisify(execFile)(script, images).catch((error: { stderr?: string }) => {
    throw new Error(`Tests on a container engine cannot run here. ${error.stderr}`);
  });
}
