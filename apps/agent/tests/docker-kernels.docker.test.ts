import { dockerOptions, testImages } from './docker-world.ts';
import { kernelSuite } from './kernel-suite.ts';

const { python, busybox } = await testImages();

kernelSuite('the docker backend', {
  ...dockerOptions,
  images: { python, shell: busybox },
  steps: [
    ...['make-scratch', 'allocate-uid', 'write-facts', 'ensure-image', 'make-network'],
    ...['create-container', 'start-container', 'await-runner'],
  ],
});
