/** `ok`: there. `missing`: something will not work. `optional`: absent, and fine without. */
export type FindingState = 'ok' | 'missing' | 'optional';

/** One thing this machine offers or lacks. */
export interface Finding {
  readonly topic: string;
  readonly state: FindingState;
  readonly detail: string;
  /** What to do about it; empty when nothing needs doing. */
  readonly hint: string;
}

export const finding = (topic: string, state: FindingState, detail: string, hint = ''): Finding => ({
  topic,
  state,
  detail,
  hint,
});
