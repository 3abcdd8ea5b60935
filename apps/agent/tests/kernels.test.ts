import { kernelSuite } from './kernel-suite.ts';
import { modes } from './modes.ts';

const steps = ['make-scratch', 'allocate-uid', 'make-cgroups', 'write-facts', 'launch', 'await-runner'];

kernelSuite('the fake backend', { backend: 'fake', steps });
for (const { name, isolated: _, ...options } of modes) {
  kernelSuite(`the process backend with ${name}`, { ...options, backend: 'process', steps });
}
