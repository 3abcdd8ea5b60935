import { dockerOptions, testImages } from './docker-world.ts';
import { kernelSuite } from './kernel-suite.ts';

kernelSuite('the docker backend', {
  ...dockerOptions,
  images: await testImages(),
  steps: [
    ...['make-scratch', 'allocate-uid', 'write-facts', 'ensure-image', 'make-network'],
    ...['create-container', 'start-container', 'await-runner'],
  ],
});
