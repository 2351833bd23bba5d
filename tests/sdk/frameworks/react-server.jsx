// The app in React, as a server renders it.
import { renderToString } from 'react-dom/server';
import { App } from './react.jsx';

export { clients } from './page.js';
export const render = (props) => renderToString(<App {...props} />);
