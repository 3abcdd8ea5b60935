/** What is told of the agent without loading it. */
export const agentVersion = '0.1.0';

/** All of stopping, in milliseconds. */
export const stopDeadlineMs = 15_000;
