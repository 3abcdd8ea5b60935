import { describe, it } from 'vitest';
import { dockerOptions, testImages } from './docker-world.ts';
import { kernelSuite } from './kernel-suite.ts';

const images = await testImages();

if (images) {
  kernelSuite('the docker backend', {
    ...dockerOptions,
    images,
    steps: [
      ...['make-scratch', 'allocate-uid', 'write-facts', 'ensure-image', 'make-network'],
      ...['create-container', 'start-container', 'await-runner'],
    ],
  });
} else {
  describe.skip('kernels on the docker backend', () => {
    it('need an engine with the images of scripts/build-images.sh', () => {});
  });
}
