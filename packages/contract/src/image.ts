import { type ErrorBody, type ImageWarning, imageLanguages, imageRoles } from '@backend.ai/core';
import { z } from 'zod';
import { slotTextsSchema } from './slot-texts.ts';
import { inputLimits, plainText } from './text.ts';

/** Images as agents and managers speak of them. What users and administrators do with them is in `image-api.ts`. */

export const digestSchema = z.string().regex(/^sha256:[0-9a-f]{64}$/, 'must be sha256: and 64 hexadecimal digits');

/** An image a session can be made of. */
export const imageSchema = z.object({
  /** Canonical name: `local/python:3.11`, `registry.example/team/python:3.11`. */
  name: plainText(inputLimits.image).min(1),
  /** Other names it answers to: `python:3.11`, `python`. */
  aliases: z.array(plainText(inputLimits.image)),
  architecture: plainText(inputLimits.architecture),
  /** The language its runner speaks in query mode. */
  language: z.enum(imageLanguages),
  /** Lowest and default amounts, as decimal texts. */
  minSlots: slotTextsSchema,
  /** Highest amounts, of slots that have one. */
  maxSlots: slotTextsSchema.optional(),
  /** Bytes of shared memory it gets unless asked for otherwise; absent: it has no say. */
  shmem: z.string().regex(/^\d+$/).optional(),
  /** Families of accelerators for which it is made, such as `cuda`; absent: it does not say. */
  accelerators: z.array(plainText(inputLimits.name)).optional(),
  /** Absent: compute. */
  role: z.enum(imageRoles).optional(),
  /** Of its configuration: what the engine calls its id. Absent: it is no container image. */
  digest: digestSchema.optional(),
});
export type Image = z.infer<typeof imageSchema>;

/** How many images of one agent are known at most. */
export const maxAgentImages = 2_000;

/**
 * What an agent can start without fetching anything. Each is looked at by itself (`imageSchema`): an odd one is left out,
 * and the others count.
 */
export const agentImagesSchema = z.array(z.custom<Image>()).max(maxAgentImages);

/**
 * When an agent fetches an image: `digest` when it lacks it or has another one of that name, `tag` when it has none of
 * that name, `none` never.
 */
export const pullPolicies = ['digest', 'tag', 'none'] as const;
export type PullPolicy = (typeof pullPolicies)[number];

/** For a registry. */
const registryCredentialsSchema = z.strictObject({
  username: plainText(inputLimits.credential),
  password: plainText(inputLimits.credential),
});

/** Where an agent fetches an image that it lacks. */
export const imageSourceSchema = z.strictObject({
  /** Of the configuration: the id of the image at the agent. */
  digest: digestSchema,
  /** Of the manifest for the agent's architecture: what is fetched, whatever the tag means by now. */
  manifestDigest: digestSchema,
  pullPolicy: z.enum(pullPolicies),
  /** Absent: it wants none. */
  credentials: registryCredentialsSchema.optional(),
});
export type ImageSource = z.infer<typeof imageSourceSchema>;

/** Bytes of what is fetched, as far as it is known by now: layers tell their sizes one by one. */
export interface PullProgress {
  readonly currentBytes: number;
  readonly totalBytes: number;
}

/** How an image is with one agent. */
export interface AgentImageState {
  readonly state: 'present' | 'pulling' | 'absent';
  /** Of the image that is there. */
  readonly digest: string | null;
  readonly progress: PullProgress | null;
  /** Why the last fetch that nobody repeated since has failed. */
  readonly failure: { readonly code: string; readonly message: string } | null;
}

/** An image to be made of what a kernel's files are now. */
export const kernelCommitSchema = z.strictObject({
  /** Canonical; nothing at the agent may have it. */
  image: plainText(inputLimits.image).min(1),
  /** It bears those of the image the kernel was made of, and these. */
  labels: z.record(plainText(inputLimits.image), plainText(inputLimits.image)).default({}),
});
export type KernelCommit = z.infer<typeof kernelCommitSchema>;

/** How the last commit of a kernel is, as long as its agent remembers it. */
export interface KernelCommitState {
  readonly state: 'none' | 'committing' | 'done' | 'failed';
  /** What is made, or was; null: nothing. */
  readonly image: string | null;
  readonly failure: ErrorBody | null;
}

export type { ImageWarning };
