import { ensureImages } from './vitest-setup.ts';

/** The smallest of our images: Podman takes long to take in the others. */
export default function preparePodman(): Promise<void> {
  return ensureImages(['shell']);
}
