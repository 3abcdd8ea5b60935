import type { CommandBundle } from '@backend.ai/cli-kit';
import {
  ImageAlias,
  ImageDealias,
  ImageDelete,
  ImageForget,
  ImageInfo,
  ImagePreload,
  ImagePurge,
  ImageRescan,
} from './image-commands.ts';
import { AdminImageList, ImageList } from './list.ts';

const verbs = [
  ImageDelete,
  ImageInfo,
  ImageRescan,
  ImageAlias,
  ImageDealias,
  ImageForget,
  ImagePurge,
  ImagePreload,
] as const;

export const commands: CommandBundle['commands'] = [ImageList, ...verbs];

/** By the names that the official command line gives them. */
export const adminCommands: CommandBundle['commands'] = [
  AdminImageList,
  ...verbs.map((Verb) => {
    const Official = class extends (Verb as typeof ImageInfo) {};
    const { usage } = Verb;
    Official.paths = Verb.paths.map((path) => ['admin', ...path]);
    Official.usage = {
      ...usage,
      examples: usage.examples?.map(([what, line]) => [what, line.replace('$0 image ', '$0 admin image ')]),
    };
    return Official;
  }),
];
