export { type FakeApi, type FakeApiOptions, startFakeApi } from './fake-api.ts';
export { FakeSession, type Program, type ProgramIo } from './fake-session.ts';
