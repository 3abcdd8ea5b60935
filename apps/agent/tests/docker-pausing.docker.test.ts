import { describe } from 'vitest';
import { dockerOptions, testImages } from './docker-world.ts';
import { pauseSuite } from './pause-suite.ts';

const images = await testImages();

describe('a kernel in a container that is paused', () => {
  pauseSuite(dockerOptions, { image: images.python });
});
