import type { Engine } from '../engine.ts';
import type { ImageEngine } from './image-engine.ts';

/** Each question with the deadline of the engine; a fetch has its own way of noticing that nothing comes any more. */
export function withDeadlines(engine: Engine, images: ImageEngine): ImageEngine {
  return {
    inspect: (reference) => engine.call('inspect an image', () => images.inspect(reference)),
    list: () => engine.call('list images', () => images.list()),
    tag: (id, name) => engine.call('name an image', () => images.tag(id, name)),
    remove: (name, options) =>
      engine.call('remove an image', () => images.remove(name, options), { timeoutMs: removeTimeoutMs }),
    pull: (reference, options) => images.pull(reference, options),
  };
}

const removeTimeoutMs = 60_000;
